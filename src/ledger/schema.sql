-- Version 1 of schema `howdah`: what is done, and who did it. Run once, in one transaction.

CREATE TABLE howdah.run (
    id             uuid PRIMARY KEY,
    plan_name      text NOT NULL,
    plan_path      text,
    plan_source    text NOT NULL,               -- as written: ${ENV} not filled in, passwords replaced
    fingerprint    text NOT NULL,               -- of the steps
    state          text NOT NULL,
    detail         jsonb NOT NULL,              -- the state with what belongs to it
    epoch          bigint NOT NULL DEFAULT 1,   -- raised by whoever takes the run over
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    worked_ms      bigint NOT NULL DEFAULT 0,
    paused_ms      bigint NOT NULL DEFAULT 0,
    driver_host    text NOT NULL,
    driver_pid     integer NOT NULL,
    driver_version text NOT NULL,
    heartbeat      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX run_created_at ON howdah.run (created_at DESC);

CREATE TABLE howdah.step (
    run            uuid NOT NULL REFERENCES howdah.run ON DELETE CASCADE,
    step           integer NOT NULL,            -- position in the plan, from 0
    name           text NOT NULL,
    kind           text NOT NULL,
    fingerprint    text NOT NULL,
    state          text NOT NULL DEFAULT 'waiting',
    epoch          bigint NOT NULL DEFAULT 1,
    started_at     timestamptz,
    finished_at    timestamptz,
    ended_after_ms bigint,                      -- from the run's start to the step's end: work and pause
    worked_ms      bigint NOT NULL DEFAULT 0,
    paused_ms      bigint NOT NULL DEFAULT 0,
    sweep          integer NOT NULL DEFAULT 0,  -- the newest sweep, from 1
    foretold       bigint,                      -- rows that statistics foretold for it
    outcome        text,
    cleaned_at     timestamptz,
    PRIMARY KEY (run, step)
) WITH (fillfactor = 50);

CREATE TABLE howdah.segment (
    run            uuid NOT NULL,
    step           integer NOT NULL,
    sweep          integer NOT NULL,
    segment        integer NOT NULL,
    lower_key      text[],                      -- keys are larger than this; NULL: from the first
    upper_key      text[],                      -- and not larger than this; NULL: to the last
    cursor_key     text[],                      -- keys up to here are done; NULL: nothing yet
    done           boolean NOT NULL DEFAULT false,
    epoch          bigint NOT NULL,
    rows_walked    bigint NOT NULL DEFAULT 0,
    rows_changed   bigint NOT NULL DEFAULT 0,
    still_matching bigint NOT NULL DEFAULT 0,
    batches        bigint NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, step, sweep, segment),
    FOREIGN KEY (run, step) REFERENCES howdah.step ON DELETE CASCADE
) WITH (fillfactor = 50);

CREATE TABLE howdah.event (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run   uuid NOT NULL REFERENCES howdah.run ON DELETE CASCADE,
    at    timestamptz NOT NULL,
    level text NOT NULL,
    kind  text NOT NULL,
    text  text NOT NULL
);
CREATE INDEX event_run ON howdah.event (run, id);
