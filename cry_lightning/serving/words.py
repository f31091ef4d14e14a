"""What the page says, in each of its languages."""

from collections.abc import Mapping, Sequence

from cry_lightning.lineage.check import SYNTHETIC

EN = {
    "language": "English",
    "languages": "Language",
    "title": "Classifier of recordings",
    "skip": "Go to the result",
    "use": "This is a research tool, not a medical device. It does not diagnose; nobody may be treated, or left"
    " untreated, by what it shows.",
    "sound": "Sound",
    "choose": "Choose recordings, or drop them here",
    "accepted": "Audio or video of any kind, at most {mb} MB and {seconds} s each. Several are processed one after"
    " the other.",
    "detect": "Find sounds that may be cries first, and judge those, with the sound around them",
    "record": "Record",
    "stop": "Stop recording",
    "recording": "Recording",
    "no_microphone": "The microphone cannot be used: ",
    "insecure": "Browsers lend the microphone only to pages by https, or of the same machine. Record with another"
    " program, and choose the file here.",
    "too_short": "too short; press again to stop when there is something to hear",
    "working": "Processing",
    "of": "of",
    "done": "Done",
    "unusable": "could not be used",
    "failed": "Error",
    "too_large": "more than {mb} MB",
    "unreadable": "the browser cannot read it; it is a folder, or it was moved or changed since",
    "busy": "The server is busy and is asked again",
    "unreachable": "the server does not answer",
    "result": "Result",
    "nothing_yet": "Nothing yet: choose or record a sound.",
    "decision": "Decision",
    "none": "no decision",
    "unsure": "The classes cannot be told apart here: more than one is possible, or none.",
    "unlike": "Unlike anything the model was trained on. Its probabilities mean nothing for such a sound.",
    "short_unsure": "unsure",
    "short_unlike": "unlike the training",
    "no_cry": "No cry was found in this recording.",
    "silent": "This recording is silent, or quieter than all that the model was trained on.",
    "quiet": "Quieter than all that the model was trained on: {n} of the {rows} rows of the table below. It may not"
    " be right about them.",
    "short_quiet": "very quiet",
    "no_reference": "This model was never tested, so that there are no calibrated probabilities and no decision;"
    " the scores are no probabilities.",
    "uncalibrated": "On the subjects of its validation, who are too few or were ranked the wrong way, this model could"
    " not be calibrated, so that there is no decision; the scores are no probabilities.",
    "in_part": "Not all of the recording could be used",
    "class": "Class",
    "probability": "Calibrated probability",
    "score": "Score",
    "novelty": "Unlikeness to the training (1 is the limit)",
    "short_novelty": "Unlikeness",
    "units_cries": "Sounds that may be cries",
    "units_windows": "Windows (no cry was sought, or none found)",
    "start": "From (s)",
    "duration": "Length (s)",
    "picture": "Waveform above, mel spectrogram below. What is loud stands out from the background.",
    "first_minute": "Only the first minute is drawn.",
    "saliency": "Show in orange where a change of level would change the highest score, “{name}”, most",
    "saliency_note": "Orange is no explanation: it shows what this network reacts to, right or wrong.",
    "no_saliency": "What the answer depends on cannot be shown for this model.",
    "time": "Time (s)",
    "frequency": "kHz",
    "described": "Waveform and mel spectrogram of {name}, {seconds} s.",
    "framed": "Frames mark {n} of the rows of the table below.",
    "play": "Play the recording",
    "cannot_play": "This browser cannot play a file of this kind; the server could read it.",
    "history": "History",
    "kept": "Kept in this tab only, until it is closed or loaded again. The server keeps no recording.",
    "recording_name": "Recording",
    "show": "Show",
    "download_recordings": "Download the recordings as CSV",
    "download_rows": "Download the rows of all as CSV",
    "clear_history": "Clear the history",
    "meaning": "What it can and cannot say",
    "can": [
        "A decision is the only class that is possible, by thresholds that 90 % of the validation cases of each class"
        " reached. Otherwise there is none.",
        "A probability is calibrated on the subjects of the validation. It holds for subjects, microphones and rooms"
        " like theirs, and for classes as frequent as there.",
        "It does not know classes it was not trained on, and cannot tell that a sound is of none of them but by its"
        " unlikeness to the training.",
        "It says nothing of a cause that was not recorded as a label, and nothing of the subject's state before or"
        " after the recording.",
    ],
    "model": "This model",
    "classes": "Classes",
    "window": "Window",
    "subjects": "Validation subjects",
    "lineage": "Test on unseen subjects",
    "synthetic": SYNTHETIC,
    "leaky": "This model was tested on what it was trained on: nobody knows how it does on others.",
    "unknown_lineage": "It is not known what this model was trained on: on others it may do worse than in its test.",
    "subjects_unknown": "It is not known whose all recordings of its training or test are: on others, this model may do"
    " worse than in its test.",
    "not_tested": "There is no test of this model.",
    "programs": "For programs: POST /api/predict, described by /openapi.json.",
    "no_script": "This page needs JavaScript. Programs use POST /api/predict.",
}

DE = {
    "language": "Deutsch",
    "languages": "Sprache",
    "title": "Klassifikator für Aufnahmen",
    "skip": "Zum Ergebnis",
    "use": "Dies ist ein Forschungswerkzeug, kein Medizinprodukt. Es stellt keine Diagnose; niemand darf nach dem, was"
    " es zeigt, behandelt werden oder unbehandelt bleiben.",
    "sound": "Aufnahme",
    "choose": "Aufnahmen wählen oder hier ablegen",
    "accepted": "Ton oder Video jeder Art, je höchstens {mb} MB und {seconds} s. Mehrere werden nacheinander"
    " verarbeitet.",
    "detect": "Zuerst Klänge suchen, die Schreie sein können, und diese beurteilen, mit dem Klang um sie",
    "record": "Aufnehmen",
    "stop": "Aufnahme beenden",
    "recording": "Aufnahme läuft",
    "no_microphone": "Das Mikrofon ist nicht nutzbar: ",
    "insecure": "Browser geben das Mikrofon nur Seiten mit https oder desselben Rechners. Nehmen Sie mit einem anderen"
    " Programm auf, und wählen Sie hier die Datei.",
    "too_short": "zu kurz; drücken Sie erst dann noch einmal, wenn etwas zu hören war",
    "working": "In Arbeit",
    "of": "von",
    "done": "Fertig",
    "unusable": "nicht verwendbar",
    "failed": "Fehler",
    "too_large": "mehr als {mb} MB",
    "unreadable": "der Browser kann es nicht lesen; es ist ein Ordner, oder wurde seitdem bewegt oder verändert",
    "busy": "Der Server ist ausgelastet und wird erneut gefragt",
    "unreachable": "der Server antwortet nicht",
    "result": "Ergebnis",
    "nothing_yet": "Noch keines: wählen Sie eine Aufnahme, oder nehmen Sie auf.",
    "decision": "Entscheidung",
    "none": "keine Entscheidung",
    "unsure": "Die Klassen sind hier nicht zu unterscheiden: mehr als eine ist möglich, oder keine.",
    "unlike": "Anders als alles, womit das Modell trainiert wurde. Seine Wahrscheinlichkeiten bedeuten bei einem"
    " solchen Klang nichts.",
    "short_unsure": "unsicher",
    "short_unlike": "anders als das Training",
    "no_cry": "In dieser Aufnahme wurde kein Schrei gefunden.",
    "silent": "Diese Aufnahme ist stumm, oder leiser als alles, womit das Modell trainiert wurde.",
    "quiet": "Leiser als alles, womit das Modell trainiert wurde: {n} der {rows} Zeilen in der Tabelle darunter. Bei"
    " ihnen kann es falsch liegen.",
    "short_quiet": "sehr leise",
    "no_reference": "Dieses Modell wurde nie getestet; darum gibt es keine kalibrierten Wahrscheinlichkeiten und keine"
    " Entscheidung. Die Punktwerte sind keine Wahrscheinlichkeiten.",
    "uncalibrated": "An den Probanden seiner Validierung, die zu wenige sind oder verkehrt herum geordnet wurden, ließ"
    " sich dieses Modell nicht kalibrieren; darum gibt es keine Entscheidung. Die Punktwerte sind keine"
    " Wahrscheinlichkeiten.",
    "in_part": "Nicht die ganze Aufnahme war zu verwenden",
    "class": "Klasse",
    "probability": "Kalibrierte Wahrscheinlichkeit",
    "score": "Punktwert",
    "novelty": "Abstand vom Training (1 ist die Grenze)",
    "short_novelty": "Abstand",
    "units_cries": "Klänge, die Schreie sein können",
    "units_windows": "Fenster (kein Schrei gesucht oder gefunden)",
    "start": "Ab (s)",
    "duration": "Dauer (s)",
    "picture": "Oben die Wellenform, unten das Mel-Spektrogramm. Lautes hebt sich vom Hintergrund ab.",
    "first_minute": "Nur die erste Minute ist gezeichnet.",
    "saliency": "In Orange zeigen, wo ein anderer Pegel den höchsten Punktwert, „{name}“, am meisten ändern würde",
    "saliency_note": "Orange ist keine Erklärung: es zeigt, worauf dieses Netz anspricht, zu Recht oder nicht.",
    "no_saliency": "Wovon die Antwort abhängt, lässt sich bei diesem Modell nicht zeigen.",
    "time": "Zeit (s)",
    "frequency": "kHz",
    "described": "Wellenform und Mel-Spektrogramm von {name}, {seconds} s.",
    "framed": "Rahmen zeigen {n} der Zeilen in der Tabelle darunter.",
    "play": "Aufnahme abspielen",
    "cannot_play": "Dieser Browser kann eine solche Datei nicht abspielen; der Server konnte sie lesen.",
    "history": "Verlauf",
    "kept": "Nur in diesem Tab, bis er geschlossen oder neu geladen wird. Der Server behält keine Aufnahme.",
    "recording_name": "Aufnahme",
    "show": "Zeigen",
    "download_recordings": "Die Aufnahmen als CSV herunterladen",
    "download_rows": "Die Zeilen aller als CSV herunterladen",
    "clear_history": "Verlauf leeren",
    "meaning": "Was es sagen kann und was nicht",
    "can": [
        "Eine Entscheidung ist die einzige mögliche Klasse, nach Schwellen, die 90 % der Validierungsfälle jeder Klasse"
        " erreichten. Sonst gibt es keine.",
        "Eine Wahrscheinlichkeit ist an den Probanden der Validierung kalibriert. Sie gilt für Probanden, Mikrofone"
        " und Räume wie dort, und für Klassen, die so häufig sind wie dort.",
        "Es kennt keine Klassen, mit denen es nicht trainiert wurde, und erkennt nur am Abstand vom Training, dass ein"
        " Klang zu keiner von ihnen gehört.",
        "Es sagt nichts über eine Ursache, die nicht als Klasse vermerkt war, und nichts über den Zustand des Probanden"
        " vor oder nach der Aufnahme.",
    ],
    "model": "Dieses Modell",
    "classes": "Klassen",
    "window": "Fenster",
    "subjects": "Probanden der Validierung",
    "lineage": "Test an unbekannten Probanden",
    "synthetic": "Die Aufnahmen sind synthetisch, von einem Programm gemacht: Zahlen dieses Modells sagen nichts über"
    " Säuglinge.",
    "leaky": "Dieses Modell wurde mit dem getestet, womit es trainiert wurde: niemand weiß, was es bei anderen taugt.",
    "unknown_lineage": "Es ist nicht bekannt, womit dieses Modell trainiert wurde: bei anderen kann es schlechter sein"
    " als in seinem Test.",
    "subjects_unknown": "Es ist nicht bekannt, von wem alle Aufnahmen seines Trainings oder Tests sind: bei anderen"
    " kann dieses Modell schlechter sein als in seinem Test.",
    "not_tested": "Es gibt keinen Test dieses Modells.",
    "programs": "Für Programme: POST /api/predict, beschrieben in /openapi.json.",
    "no_script": "Diese Seite braucht JavaScript. Programme nutzen POST /api/predict.",
}

WORDS: Mapping[str, Mapping[str, str | Sequence[str]]] = {"en": EN, "de": DE}
