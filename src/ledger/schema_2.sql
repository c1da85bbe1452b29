-- Version 2 of schema `howdah`: parallel segments, waiting, the quarantine, undo.

ALTER TABLE howdah.run
    ADD COLUMN waited jsonb NOT NULL DEFAULT '{}',  -- time lost to waiting: reason -> milliseconds
    ADD COLUMN undoes uuid,                         -- the run that this one takes back
    ADD COLUMN undo_step text;                      -- only this step of it; NULL: all

ALTER TABLE howdah.step
    ADD COLUMN retries   bigint NOT NULL DEFAULT 0, -- batches that were tried again
    ADD COLUMN waited_ms bigint NOT NULL DEFAULT 0, -- part of worked_ms
    ADD COLUMN churn     jsonb,                     -- what the step did to its table, by the server's statistics
    ADD COLUMN walk      text;                      -- what a cursor means: the keys that were walked, and their order

ALTER TABLE howdah.segment
    ADD COLUMN part        text,                    -- the partition that it lies in, quoted; NULL: the table itself
    ADD COLUMN quarantined bigint NOT NULL DEFAULT 0;

CREATE TABLE howdah.quarantine (
    run         uuid NOT NULL,
    step        integer NOT NULL,
    part        text NOT NULL DEFAULT '',           -- the partition, quoted; empty: the table itself
    key         text[] NOT NULL,
    row_data    jsonb,                              -- the row as it was when it failed
    sqlstate    text,
    message     text NOT NULL,
    attempts    integer NOT NULL DEFAULT 1,
    at          timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,                        -- when a retry succeeded
    PRIMARY KEY (run, step, part, key),
    FOREIGN KEY (run, step) REFERENCES howdah.step ON DELETE CASCADE
);
