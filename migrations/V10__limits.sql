-- How many jobs of a queue may be under way, over all brokers. Null: no limit.
ALTER TABLE currant.queue
    -- Attempts that workers have at a time.
    ADD COLUMN concurrency_max int CHECK (concurrency_max BETWEEN 1 AND 1000000),
    -- Attempts that go to workers: so many in each period, and at most a burst at once. All three or none.
    ADD COLUMN rate_jobs       int CHECK (rate_jobs BETWEEN 1 AND 1000000),
    ADD COLUMN rate_period_ms  bigint CHECK (rate_period_ms BETWEEN 1 AND 86400000),
    ADD COLUMN rate_burst      int CHECK (rate_burst BETWEEN 1 AND 1000000),
    ADD CHECK (num_nulls(rate_jobs, rate_period_ms, rate_burst) IN (0, 3));

-- Which broker takes and delivers the jobs of a limited queue. It does so until it gives the queue up, or is
-- held for dead: what it has delivered by then counts for its successor.
CREATE TABLE currant.queue_owner (
    queue_id int PRIMARY KEY,
    owner    int NOT NULL
);
