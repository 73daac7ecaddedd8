"""How good a model is, whether it may be served, and how it comes to be: evaluation, the gate, promotion, explanation.

`handler` runs evaluations and gates as jobs: tasks go through the pipeline, in the batch lane; what is measured of an
artefact itself (`process`) runs in a process of its own. `promotion` moves public names from deployment to deployment.
"""
