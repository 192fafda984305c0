"""What is timed, a file a row of the scoreboard.

A workload has its row's number, ROW, and `benchmarks(config)`; one that adds to what is measured, such as memory, has
`records(config)`, which measures by itself.
"""

from experiments.benchmarks.workloads import (
    accuracy,
    gpu_narrow,
    gpu_wide,
    medium,
    memory,
    per_example,
    planar,
    private,
    startup,
    sweep,
    tiny,
    wide,
)

BY_ROW = {
    module.ROW: module
    for module in (
        tiny,
        planar,
        medium,
        wide,
        sweep,
        per_example,
        accuracy,
        startup,
        memory,
        gpu_wide,
        gpu_narrow,
        private,
    )
}
