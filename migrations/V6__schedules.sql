-- Recurring jobs. Each fire is one UPDATE that moves next_at on, and stores its job with it: it is made
-- once, however many brokers see that it is due.
CREATE TABLE currant.schedule (
    name         text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
    -- Grows with each change: a fire that was decided before one isn't made.
    revision     bigint NOT NULL DEFAULT 0,
    cron         text NOT NULL,
    time_zone    text NOT NULL,
    catch_up     smallint NOT NULL,         -- 0 skip, 1 latest, 2 all
    window_ms    bigint NOT NULL,           -- how far back, with 2
    overlap      smallint NOT NULL,         -- 0 allow, 1 skip, 2 queue one
    from_file    boolean NOT NULL,          -- written by a broker's file, and deleted with its line there
    -- The jobs that it stores.
    queue_id     int NOT NULL,
    kind         text NOT NULL,
    payload      bytea NOT NULL,
    priority     smallint,                  -- null: the queue's default
    max_attempts smallint,
    options      jsonb,
    paused_at    timestamptz,
    next_at      timestamptz,               -- null: paused, or never again
    waiting_at   timestamptz,               -- a fire that waits until the job before is over
    last_at      timestamptz,               -- of the last fire
    last_job     bigint                     -- its job
);
CREATE INDEX schedule_next ON currant.schedule (next_at);

CREATE FUNCTION currant.note_schedule_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('currant_ready', 'schedules');
    RETURN NULL;
END
$$;
CREATE TRIGGER note_change AFTER INSERT OR UPDATE OF revision ON currant.schedule
    FOR EACH STATEMENT EXECUTE FUNCTION currant.note_schedule_change();
