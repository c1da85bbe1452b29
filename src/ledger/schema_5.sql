-- Version 5 of schema `howdah`: tables that a run changes, and other processes that walk some of its segments.

ALTER TABLE howdah.run
    ADD COLUMN tables text[] NOT NULL DEFAULT '{}'; -- quoted, with their schemas; two driven runs never share one

-- A segment belongs to whose mark stands in `epoch`: the driver's is its epoch, a member's is its number below zero, and 0 is
-- nobody's. Whoever moves a cursor names its mark.
ALTER TABLE howdah.segment
    ADD COLUMN is_taken boolean NOT NULL DEFAULT false; -- the driver walks it, or has: no member may lease it

CREATE TABLE howdah.member (                        -- processes that have joined a run
    member    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run       uuid NOT NULL REFERENCES howdah.run ON DELETE CASCADE,
    epoch     bigint NOT NULL,                      -- of the driver under whom it joined: ends with it
    place     integer NOT NULL,                     -- its number among all that ever joined the run, from 1
    host      text NOT NULL,
    pid       integer NOT NULL,
    workers   integer NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now(),
    heartbeat timestamptz NOT NULL DEFAULT now(),
    left_at   timestamptz,                          -- when it gave back what it held
    is_dry    boolean NOT NULL DEFAULT false,       -- it has workers without a segment
    rests     boolean NOT NULL DEFAULT true,        -- the driver wants that it opens no batch; until it has seen the member
    wish      bigint NOT NULL DEFAULT 0,            -- how often that has changed
    rested    bigint,                               -- the wish under which it has no batch open, and opens none
    shares    boolean NOT NULL DEFAULT false,       -- the driver wants that it halves what it walks, and gives half back
    says      text,                                 -- why it waits, or why it left
    UNIQUE (run, place)
) WITH (fillfactor = 50);
CREATE INDEX segment_mark ON howdah.segment (run, step, sweep, epoch) WHERE NOT done;
