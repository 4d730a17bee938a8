-- Currant's schema. docs of each column stand here; the reasons for the layout in
-- docs/decisions/0001-row-layout.md.
-- The rule that everything rests on: no index mentions a column that a completion writes
-- (outcome, result, finished_at), so that a completion is a heap-only (HOT) update.

CREATE TABLE currant.queue (
    id            int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$'),
    -- Defaults for the jobs of this queue; null: the broker's own setting.
    max_attempts  smallint CHECK (max_attempts BETWEEN 1 AND 1000),
    retry_base_ms bigint CHECK (retry_base_ms BETWEEN 1 AND 315360000000),
    retry_max_ms  bigint CHECK (retry_max_ms BETWEEN 1 AND 315360000000),
    retry_factor  double precision CHECK (retry_factor BETWEEN 1 AND 100),
    retry_jitter  double precision CHECK (retry_jitter BETWEEN 0 AND 1),
    timeout_ms    bigint CHECK (timeout_ms BETWEEN 1 AND 2592000000)
);

CREATE TABLE currant.job (
    -- First what every row has, in fixed places: what each update compares is found without a walk.
    -- Time-ordered: milliseconds since 1970 << 22 | broker slot << 12 | sequence. The slots from 768
    -- are SQL's, all together: its sequence has 20 bits.
    id              bigint NOT NULL,
    queue_id        int NOT NULL,
    attempt         int NOT NULL,       -- fences every write of an outcome; only grows; a cancel takes one
    priority        smallint NOT NULL,
    phase           smallint NOT NULL,  -- 0 scheduled, 1 ready, 2 taken; a completion never writes it
    failures        smallint NOT NULL DEFAULT 0,
    -- Side by side what a completion writes: all before and all after is left out of its WAL.
    outcome         smallint,           -- null open, 1 succeeded, 2 dead, 3 cancelled; in no index
    finished_at     timestamptz,
    run_at          timestamptz,        -- null: at once
    claimed_at      timestamptz,        -- of the current attempt; null with phase 2: taken while it was stored
    owner           int,                -- the broker incarnation that holds it
    max_attempts    smallint,           -- null: the queue's default
    kind            text NOT NULL,
    payload         bytea NOT NULL,
    result          bytea,
    error           text,               -- of the last failed attempt
    options         jsonb,              -- what few jobs have: retry policy, timeout, content type, tags, trace
    idempotency_key text,               -- on the first job of a call that had one
    PRIMARY KEY (queue_id, id)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 50000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 50000
);
-- Large payloads and results are compressed; lz4 takes a fraction of pglz' time. Not every server has it.
DO $$ BEGIN
    ALTER TABLE currant.job ALTER payload SET COMPRESSION lz4, ALTER result SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
CREATE INDEX job_ready ON currant.job (queue_id, priority DESC, id) WHERE phase = 1;
CREATE INDEX job_scheduled ON currant.job (run_at) WHERE phase = 0;
CREATE UNIQUE INDEX job_idempotency ON currant.job (queue_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Brokers that run or ran: one row an incarnation.
CREATE TABLE currant.broker (
    id           int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot         smallint NOT NULL UNIQUE CHECK (slot BETWEEN 0 AND 767),
    name         text NOT NULL,
    heartbeat_at timestamptz NOT NULL,
    -- No job that it holds has a smaller id, but those in straggler.
    low_id       bigint NOT NULL,
    -- Since when it is known to hold no more; its jobs are rescued a grace later.
    dead_at      timestamptz,
    -- When they were, for the first time. They are once more before it is forgotten, for the sake of
    -- writes that were under way.
    rescued_at   timestamptz
) WITH (fillfactor = 50);

-- Jobs held for so long that low_id has passed them.
CREATE TABLE currant.straggler (
    owner    int NOT NULL,
    queue_id int NOT NULL,
    id       bigint NOT NULL,
    PRIMARY KEY (owner, queue_id, id)
);

-- Attempts that were cancelled while a broker held them, until it has heard of it.
CREATE TABLE currant.cancel (
    owner    int NOT NULL,
    queue_id int NOT NULL,
    id       bigint NOT NULL,
    attempt  int NOT NULL,
    PRIMARY KEY (owner, queue_id, id, attempt)
);

CREATE SEQUENCE currant.enqueue_sequence;

-- For people: states as they are shown, times that the table leaves out.
CREATE VIEW currant.jobs AS
SELECT j.id, q.name AS queue, j.kind, j.priority,
       CASE WHEN j.outcome = 1 THEN 'succeeded' WHEN j.outcome = 2 THEN 'dead'
            WHEN j.outcome = 3 THEN 'cancelled' WHEN j.phase = 0 THEN 'scheduled'
            WHEN j.phase = 1 THEN 'ready' ELSE 'running' END AS state,
       j.attempt, j.failures, coalesce(j.max_attempts, q.max_attempts) AS max_attempts,
       to_timestamp((j.id >> 22) / 1000.0) AS created_at, j.run_at,
       CASE WHEN j.attempt > 0 THEN coalesce(j.claimed_at, to_timestamp((j.id >> 22) / 1000.0)) END
           AS claimed_at,
       j.finished_at, j.payload, j.result, j.error, j.options
FROM currant.job j JOIN currant.queue q ON q.id = j.queue_id;

-- Stores a job inside the caller's own transaction and wakes the brokers when it commits. Returns
-- the job's id.
CREATE FUNCTION currant.enqueue_bytes(
    queue text, kind text, payload bytea, priority int DEFAULT 0, run_at timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL, content_type text DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_queue int;
    v_id bigint;
    v_later boolean := run_at IS NOT NULL AND run_at > clock_timestamp();
BEGIN
    IF queue IS NULL OR queue !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' THEN
        RAISE EXCEPTION 'queue: 1 to 128 characters of A-Z a-z 0-9 . _ : / -, starting with a letter or digit'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF kind IS NULL OR kind !~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' THEN
        RAISE EXCEPTION 'kind: 1 to 128 characters of A-Z a-z 0-9 . _ : / -, starting with a letter or digit'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF payload IS NULL OR octet_length(payload) > 1048576 THEN
        RAISE EXCEPTION 'payload: at most 1048576 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF char_length(content_type) > 128 THEN
        RAISE EXCEPTION 'content_type: at most 128 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF priority IS NULL OR priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION 'priority: -100 to 100' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF max_attempts NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'max_attempts: 1 to 1000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF run_at < '2000-01-01' OR run_at > clock_timestamp() + interval '10 years' THEN
        RAISE EXCEPTION 'run_at: not before 2000, not more than 10 years ahead'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT q.id INTO v_queue FROM currant.queue q WHERE q.name = queue;
    IF v_queue IS NULL THEN
        INSERT INTO currant.queue (name) VALUES (queue) ON CONFLICT DO NOTHING;
        SELECT q.id INTO v_queue FROM currant.queue q WHERE q.name = queue;
    END IF;
    -- Two ids are equal only if a million others are made between one's look at the clock and its
    -- look at the sequence, or within a millisecond.
    v_id := (floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint << 22)
            | (768 << 12) | (nextval('currant.enqueue_sequence') & 1048575);
    INSERT INTO currant.job (queue_id, id, kind, priority, phase, attempt, run_at, max_attempts, payload, options)
    VALUES (v_queue, v_id, kind, priority, CASE WHEN v_later THEN 0 ELSE 1 END, 0,
            CASE WHEN v_later THEN run_at END, max_attempts, payload,
            CASE WHEN content_type IS NOT NULL THEN jsonb_build_object('content_type', content_type) END);
    -- Equal notifications of one transaction are sent once.
    PERFORM pg_notify('currant_ready', CASE WHEN v_later THEN 'scheduled' ELSE v_queue::text END);
    RETURN v_id;
END
$$;

-- The same for a payload of JSON, handed to the worker as UTF-8 text.
CREATE FUNCTION currant.enqueue(
    queue text, kind text, payload jsonb DEFAULT 'null', priority int DEFAULT 0,
    run_at timestamptz DEFAULT NULL, max_attempts int DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    SELECT currant.enqueue_bytes(queue, kind, convert_to(payload::text, 'UTF8'), priority, run_at,
                                 max_attempts, 'application/json')
$$;
