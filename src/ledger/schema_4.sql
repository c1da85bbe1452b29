-- Version 4 of schema `howdah`: commands, and the newest snapshot of a run for consoles elsewhere.

CREATE TABLE howdah.command (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run        uuid NOT NULL REFERENCES howdah.run ON DELETE CASCADE,
    command    jsonb NOT NULL,                      -- as the driver reads it
    words      text NOT NULL,                       -- as a person says it
    via        text NOT NULL,                       -- console, attached, script, signal, hang_up
    who        text NOT NULL,                       -- user@host, as the asking process knows itself
    role       text NOT NULL DEFAULT session_user,  -- the role that wrote it
    client     text,                                -- the address that it came from; NULL: the driver's own
    asked_at   timestamptz NOT NULL DEFAULT now(),
    state      text NOT NULL DEFAULT 'asked',       -- asked, heard, taken, refused
    outcome    text,
    applied_at timestamptz
);
CREATE INDEX command_run ON howdah.command (run, id);

-- Lost with a crash of the server, which costs nothing: the driver writes it anew, once a second while somebody watches.
CREATE UNLOGGED TABLE howdah.snapshot (
    run      uuid PRIMARY KEY,
    epoch    bigint NOT NULL,
    at       timestamptz NOT NULL,
    snapshot text NOT NULL,                         -- JSON: everything but events and the course over time
    course   text                                   -- JSON: the course over time, every ten seconds
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 2000);
