-- How far the attempts of a job have come, and what the next one goes on from: of jobs whose workers say so.
CREATE TABLE currant.progress (
    queue_id    int NOT NULL,
    id          bigint NOT NULL,
    attempt     int NOT NULL,       -- the last that said something
    percent     real,               -- of that attempt; null: not said, as the next
    message     text,
    checkpoint  bytea,              -- of any attempt, the last
    reported_at timestamptz NOT NULL,
    PRIMARY KEY (queue_id, id)
) WITH (fillfactor = 50);
