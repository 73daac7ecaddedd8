"""The serving code in virtual time: request traces against engines that are a calibrated model.

    traces -> workload -> run -> report, plot
                           |
                           +-- the queue, the router and the step scheduler that serve, from `scheduling`
                           +-- engine, memory: what a replica is, as `calibration` says it was measured

No decision is made here. What the gateway's dispatcher and the engine's loop do around those decisions is repeated,
without processes, sockets and tokens; time is a number that the run moves.
"""
