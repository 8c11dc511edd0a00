"""The definition of batch prediction: a plan, shares of the parts in several pods, then the manifest.

The steps pass no values: inside a loop, kfp.local 2.17 replaces those of other steps by the loop's item. No step is
cached, because its results are in the output's store, where it finds what is done.
"""

from typing import Any

from kfp import dsl

from digits.tasks.task import BUILT_IN
from pipeline import BATCH, PODS, shares_of
from pipeline.components import IMAGE
from pipeline.definition import Configure, unchanged

SHARES = shares_of(PODS)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def plan_batch(pictures: str, output: str, release: str, task: str) -> None:
    """Check the release and the pictures, and write the plan."""
    from digits.serving import batch_steps

    batch_steps.plan(pictures, output, release, task)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict_part(pictures: str, output: str, share: str, task: str) -> None:
    """Write the parts of a share."""
    from digits.serving import batch_steps

    batch_steps.predict(pictures, output, share, task)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish_batch(pictures: str, output: str, task: str) -> None:
    """Write the manifest."""
    from digits.serving import batch_steps

    batch_steps.finish(pictures, output, task)


def build(configure: Configure = unchanged) -> Any:
    """Return the pipeline as a KFP component; `configure` is as for `pipeline.definition.build`."""

    def add(component: Any, **inputs: Any) -> dsl.PipelineTask:
        task = component(**inputs)
        configure(task)
        return task.set_caching_options(enable_caching=False)

    @dsl.pipeline(name=BATCH, description="Recognises many pictures with a release, without the endpoint")
    def digits_batch(
        pictures: str, output: str, release: str = "", shares: list = SHARES, task: str = BUILT_IN
    ) -> None:
        """Recognise many pictures.

        Args:
            pictures: address of the pictures, as for `digits batch`.
            output: address of the folder for the answers.
            release: version of the release; empty: the champion.
            shares: how the parts are divided, an item for each pod: 1/4, 2/4, 3/4, 4/4.
            task: what is recognised: the name of a built-in task, or a task's text.
        """
        places = {"pictures": pictures, "output": output, "task": task}
        planned = add(plan_batch, release=release, **places)
        with dsl.ParallelFor(shares) as share:
            predicted = add(predict_part, share=share, **places).after(planned)
        add(finish_batch, **places).after(predicted)

    return digits_batch
