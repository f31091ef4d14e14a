"""Endings of files that may hold sound, in lower case; what a file is, is told by its content alone."""

UNCOMPRESSED = """
.wav .wave .bwf .rf64 .w64 .aif .aiff .aifc .au .snd .caf .voc .svx .8svx .iff
.sph .nist .ircam .sf .htk .paf .pvf .avr
"""
COMPRESSED = """
.flac .fla .alac .wv .tta .ape .tak .mp3 .mp2 .mp1 .mpga .m4a .m4b .m4r .aac .adts .ogg .oga .opus .spx .wma .asf .amr
.awb .3ga .ac3 .eac3 .dts .mpc .mka .weba .gsm .g722 .ra .rm .dss .qcp .latm .loas .dsf
"""
VIDEO = """
.mp4 .m4v .mov .qt .3gp .3g2 .3gpp .3gpp2 .mkv .webm .avi .wmv .flv .f4v .ts .mts .m2ts .mpg .mpeg .vob .ogv
"""
EXTENSIONS = frozenset(f"{UNCOMPRESSED} {COMPRESSED} {VIDEO}".split())
BESIDE = """
.txt .csv .tsv .md .rst .json .jsonl .yaml .yml .toml .cfg .ini .xml .html .htm .pdf .doc .docx .xls .xlsx .odt .ods
.rtf .tex .bib .log .textgrid .eaf .lab .trs .ctm .stm .rttm .srt .vtt .cha .praat .pitch .png .jpg .jpeg .gif .bmp
.tif .tiff .svg .webp .eps .ps .py .m .r .ipynb .sh .js .npy .npz .h5 .hdf5 .mat .pkl .pt .ckpt .parquet .feather .zip
.gz .tar .tgz .bz2 .xz .7z .rar .db .sha256 .md5 .cff .lock .part .tmp .bak .url .lnk .license
"""
NO_SOUND = frozenset(BESIDE.split())  # what lies beside recordings and holds none
