"""The process of a `data` job: cleans pieces, finds duplicates, trains a tokenizer, packs shards.

Each piece that is cleaned and each that is packed is a file of its own in the job's folder, complete or absent; so a
preparation that was killed goes on at the first piece that is not there.
"""

from pileus.data.preparation import prepare
from pileus.jobs.task import run_task

if __name__ == "__main__":
    run_task(prepare)
