-- What few jobs have, in tables of its own: nothing of it is written for any other job, and no index of
-- currant.job has to mention what a completion writes.

-- The jobs that are dead: to be found without looking at all the others. A row comes with the statement
-- that writes the outcome, and goes in the transaction that takes it back or deletes the job.
CREATE TABLE currant.dead_job (
    queue_id int NOT NULL,
    id       bigint NOT NULL,
    PRIMARY KEY (queue_id, id)
);
INSERT INTO currant.dead_job SELECT queue_id, id FROM currant.job WHERE outcome = 2;

-- What jobs are found by: tags, and metadata as name=value. Both are in currant.job.options too, for the
-- worker.
CREATE TABLE currant.tag (
    queue_id int NOT NULL,
    id       bigint NOT NULL,
    tag      text NOT NULL,
    PRIMARY KEY (queue_id, tag, id)
);
CREATE INDEX tag_of_job ON currant.tag (queue_id, id);
INSERT INTO currant.tag
SELECT j.queue_id, j.id, t
FROM currant.job j, jsonb_array_elements_text(CASE jsonb_typeof(j.options -> 'tags')
                                              WHEN 'array' THEN j.options -> 'tags' END) t
ON CONFLICT DO NOTHING;

-- Attempts that failed.
CREATE TABLE currant.failure (
    queue_id  int NOT NULL,
    id        bigint NOT NULL,
    slot      smallint NOT NULL,        -- the attempt's number modulo 32: a job has no more of them
    attempt   int NOT NULL,
    failed_at timestamptz NOT NULL,
    worker    text,                     -- null, as the next: not known
    session   text,
    class     text NOT NULL,
    error     text NOT NULL,
    details   text NOT NULL,
    PRIMARY KEY (queue_id, id, slot)
);
