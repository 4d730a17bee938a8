-- What a queue can be told while brokers run. Each change has a version, by which every broker notices
-- it: at once by the notification, and by its heartbeat should that get lost.

ALTER TABLE currant.queue
    -- Of jobs that say none; null: 0.
    ADD COLUMN priority     smallint CHECK (priority BETWEEN -100 AND 100),
    -- How long finished jobs are kept; null: the broker's own setting, 0: for ever.
    ADD COLUMN succeeded_ms bigint CHECK (succeeded_ms = 0 OR succeeded_ms BETWEEN 60000 AND 315360000000),
    ADD COLUMN cancelled_ms bigint CHECK (cancelled_ms = 0 OR cancelled_ms BETWEEN 60000 AND 315360000000),
    ADD COLUMN dead_ms      bigint CHECK (dead_ms = 0 OR dead_ms BETWEEN 60000 AND 315360000000),
    -- Since when none of its jobs is given to a worker; null: they are.
    ADD COLUMN paused_at    timestamptz,
    -- Of its last change; 0: none since it was created.
    ADD COLUMN version      bigint NOT NULL DEFAULT 0;

-- The version of the last change of any queue, in one row. Who changes a queue holds it until the
-- commit, so that versions are in the order of commits: whoever has seen one has seen all before it.
CREATE TABLE currant.queue_change (version bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO currant.queue_change (version) VALUES (0);

CREATE FUNCTION currant.note_queue_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE currant.queue_change SET version = version + 1 RETURNING version INTO NEW.version;
    PERFORM pg_notify('currant_ready', 'queues');
    RETURN NEW;
END
$$;
CREATE TRIGGER note_change BEFORE UPDATE ON currant.queue
    FOR EACH ROW EXECUTE FUNCTION currant.note_queue_change();

-- Up to which version a broker follows the changes of queues.
ALTER TABLE currant.broker ADD COLUMN queue_version bigint NOT NULL DEFAULT 0;

-- What each broker has of each queue, as it told last, if something had changed.
CREATE TABLE currant.queue_load (
    owner           int NOT NULL,
    queue_id        int NOT NULL,
    sessions        int NOT NULL,
    held            int NOT NULL,   -- jobs with workers, in memory, or on their way there
    enqueued_per_s  real NOT NULL,  -- in the mean of the last seconds, as the next
    completed_per_s real NOT NULL,
    PRIMARY KEY (owner, queue_id)
) WITH (fillfactor = 50);

-- What an admin's call was for, by its name, where it was neither jobs nor a token.
ALTER TABLE currant.audit ADD COLUMN object text;
