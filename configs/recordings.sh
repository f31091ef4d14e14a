#!/usr/bin/env bash
# A line that changes with these recordings: with any file of a folder, with a manifest or a file that it names, and with
# what a data YAML names as its root, path or clip_list.
#   configs/recordings.sh PATH...
set -euo pipefail

of() { # PATH: the content of a YAML or a table, then path, size and time of each file that goes with it
  case $1 in
    "") ;;
    *.yaml | *.yml)
      cat "$1"
      grep -oE '(root|path|clip_list): *[^,}#]+' "$1" | sed -E "s/^[a-z_]+: *[\"']?//; s/[\"' ]*$//" |
        while read -r named; do if [[ -e $named ]]; then of "$named"; fi; done
      ;;
    *.csv)
      cat "$1"
      tr -d '"\r' <"$1" | tr ',' '\n' | sed -n 's|^[^/]|./&|p; s|^/|/|p' | sort -u | (cd "$(dirname "$1")" && files)
      ;;
    *) find -L "$1" -type f | sort | files ;;
  esac
}

files() { # path, size and time of those of some paths, one per line, that are files
  xargs -d '\n' -r bash -c 'find -L "$@" -maxdepth 0 -type f -printf "%p %s %T@\n" 2>/dev/null || true' find
}

for path in "$@"; do of "$path"; done | cksum
