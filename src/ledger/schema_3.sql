-- Version 3 of schema `howdah`: files, bytes, and where the output of a segment stands.

ALTER TABLE howdah.segment
    ADD COLUMN bytes  bigint NOT NULL DEFAULT 0,    -- of the input, as it lies there: compressed files by compressed bytes
    ADD COLUMN output text;                         -- where the files that a segment writes stand, for the step to read

CREATE TABLE howdah.file (                          -- files that a step replaces
    run     uuid NOT NULL,
    step    integer NOT NULL,
    path    text NOT NULL,
    epoch   bigint NOT NULL,
    state   text NOT NULL,                          -- intended, replaced, restored, kept
    before  text NOT NULL,                          -- SHA-256 of the original
    after   text NOT NULL,                          -- and of what takes its place
    backup  text,                                   -- where the original is kept
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, step, path),
    FOREIGN KEY (run, step) REFERENCES howdah.step ON DELETE CASCADE
);
