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
