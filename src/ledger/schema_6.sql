-- Version 6 of schema `howdah`: the course of a run, and what has to outlive its driver.

-- At most 2,000 rows a run: where there are more, each takes in the one after it, and spans twice as long.
CREATE TABLE howdah.sample (
    run      uuid NOT NULL REFERENCES howdah.run ON DELETE CASCADE,
    at       timestamptz NOT NULL,              -- its start
    step     integer NOT NULL,                  -- seconds that it spans
    seen     integer NOT NULL,                  -- seconds of them that a driver has seen
    rate     real NOT NULL,                     -- rows a second: mean
    batch_ms real,                              -- time of a batch: mean
    worst_ms real,                              -- and the longest
    lag      real,                              -- replay lag in seconds: most
    dead     real,                              -- dead rows of the plan's tables: most
    cpu      real,                              -- of the driver's host, from 0 to 1: mean
    memory   real,                              -- in use there, from 0 to 1: most
    rss      real,                              -- howdah's own, in bytes: most
    workers  smallint,                          -- most
    paused_s integer NOT NULL,                  -- seconds of those seen in which it stood still on request
    waits_s  integer NOT NULL,                  -- and in which batches waited
    waits    text,                              -- what for, the longest
    alert    text,                              -- the worst that was raised: info, warning, critical
    PRIMARY KEY (run, at)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE howdah.summary (
    run     uuid PRIMARY KEY REFERENCES howdah.run ON DELETE CASCADE,
    epoch   bigint NOT NULL,
    at      timestamptz NOT NULL,
    summary jsonb NOT NULL                      -- slow batches, times of batches, signals at their worst, drivers
) WITH (fillfactor = 50);
