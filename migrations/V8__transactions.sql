-- Jobs stored and completed in transactions of applications. What it opens: docs/sql.md.

-- As RetryPolicy of the contract; null: the default that stands there.
CREATE TYPE currant.retry_policy AS (
    base_delay interval,
    max_delay  interval,
    factor     double precision,
    jitter     double precision
);

CREATE FUNCTION currant.exponential_retry(
    base_delay interval DEFAULT NULL, max_delay interval DEFAULT NULL,
    factor double precision DEFAULT NULL, jitter double precision DEFAULT NULL
) RETURNS currant.retry_policy LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(base_delay, max_delay, factor, jitter)::currant.retry_policy
$$;

-- As NewJob of the contract. Null: not said; queue, kind and payload have to be there.
CREATE TYPE currant.new_job AS (
    queue        text,
    kind         text,
    payload      bytea,
    priority     int,
    run_at       timestamptz,
    max_attempts int,
    content_type text,
    delay        interval,
    retry        currant.retry_policy,
    timeout      interval,
    tags         text[],
    metadata     jsonb,             -- an object of texts
    traceparent  text
);

CREATE FUNCTION currant.new_job_bytes(
    queue text, kind text, payload bytea, priority int DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL, content_type text DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL
) RETURNS currant.new_job LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry, timeout,
               tags, metadata, traceparent)::currant.new_job
$$;

-- The same for a payload of JSON, handed to the worker as UTF-8 text.
CREATE FUNCTION currant.new_job(
    queue text, kind text, payload jsonb DEFAULT 'null', priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, max_attempts int DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL
) RETURNS currant.new_job LANGUAGE sql STABLE AS $$
    SELECT ROW(queue, kind, convert_to(payload::text, 'UTF8'), priority, run_at, max_attempts,
               'application/json', delay, retry, timeout, tags, metadata, traceparent)::currant.new_job
$$;

-- Of the last 20 bits of an id that SQL makes, the first half is for jobs one by one, from this sequence
-- of V1; the other for calls of several jobs with an idempotency key, whose ids have to follow each other:
-- 128 blocks of 4096, from this one.
CREATE SEQUENCE currant.call_sequence;

-- What follows is called by enqueue_many alone.

-- `place`: of a job among several.
CREATE FUNCTION currant.refuse(problem text, place bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', problem
        USING ERRCODE = 'invalid_parameter_value', DETAIL = coalesce('job ' || place || ' of the call', '');
END
$$;

-- A queue, which is created where it isn't there.
CREATE FUNCTION currant.queue_of(queue text) RETURNS currant.queue LANGUAGE plpgsql AS $$
DECLARE
    v_queue currant.queue;
BEGIN
    SELECT * INTO v_queue FROM currant.queue q WHERE q.name = queue;
    IF v_queue.id IS NULL THEN
        IF queue ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' IS NOT TRUE THEN
            PERFORM currant.refuse(
                'queue: 1 to 128 characters of A-Z a-z 0-9 . _ : / -, starting with a letter or digit', NULL);
        END IF;
        INSERT INTO currant.queue (name) VALUES (queue) ON CONFLICT DO NOTHING;
        SELECT * INTO v_queue FROM currant.queue q WHERE q.name = queue;
    END IF;
    RETURN v_queue;
END
$$;

-- currant.job.options of a job that has more than a content type.
CREATE FUNCTION currant.job_options(
    content_type text, retry currant.retry_policy, timeout interval, tags text[], metadata jsonb,
    traceparent text, call_jobs int, place bigint
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    -- A wait of less than a millisecond is one of a millisecond.
    v_timeout_ms bigint := ceil(extract(epoch FROM timeout) * 1000);
    v_base_ms bigint := coalesce(ceil(extract(epoch FROM retry.base_delay) * 1000), 1000);
    v_max_ms bigint := coalesce(ceil(extract(epoch FROM retry.max_delay) * 1000), greatest(v_base_ms, 3600000));
    v_factor double precision := coalesce(nullif(retry.factor, 0), 2);
    v_jitter double precision := coalesce(retry.jitter, 0.1);
    v_retry jsonb;
BEGIN
    IF retry IS DISTINCT FROM NULL THEN
        PERFORM currant.refuse(problem, place) FROM (SELECT CASE
            WHEN v_base_ms NOT BETWEEN 1 AND 315360000000 THEN 'retry: base_delay: 1 ms to 10 years'
            WHEN v_max_ms NOT BETWEEN v_base_ms AND 315360000000
                THEN 'retry: max_delay: not below base_delay, at most 10 years'
            WHEN v_factor NOT BETWEEN 1 AND 100 THEN 'retry: factor: 1 to 100'
            WHEN v_jitter NOT BETWEEN 0 AND 1 THEN 'retry: jitter: 0 to 1'
            END) AS c (problem) WHERE problem IS NOT NULL;
        v_retry := jsonb_build_object('base_ms', v_base_ms, 'max_ms', v_max_ms,
                                      'factor', v_factor, 'jitter', v_jitter);
    END IF;
    PERFORM currant.refuse(problem, place) FROM (SELECT CASE
        WHEN v_timeout_ms NOT BETWEEN 1 AND 2592000000 THEN 'timeout: 1 ms to 30 days'
        WHEN char_length(traceparent) > 128 THEN 'traceparent: at most 128 characters'
        WHEN cardinality(tags) > 16
             OR EXISTS (SELECT FROM unnest(tags) t WHERE t IS NULL OR char_length(t) > 64)
            THEN 'tags: at most 16 of at most 64 characters each'
        WHEN CASE jsonb_typeof(metadata) WHEN 'object' THEN
                 (SELECT count(*) > 16 OR bool_or(name = '' OR name LIKE '%=%' OR char_length(name) > 64
                                                  OR jsonb_typeof(value) <> 'string'
                                                  OR char_length(value #>> '{}') > 256)
                  FROM jsonb_each(metadata) AS e (name, value))
             ELSE metadata IS NOT NULL END
            THEN 'metadata: an object of at most 16 texts of at most 256 characters; '
                 'a name: 1 to 64 characters without ='
        END) AS c (problem) WHERE problem IS NOT NULL;
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'content_type', nullif(content_type, ''), 'retry', v_retry, 'timeout_ms', v_timeout_ms,
        'tags', CASE WHEN cardinality(tags) > 0 THEN to_jsonb(tags) END, 'metadata', nullif(metadata, '{}'),
        'traceparent', nullif(traceparent, ''), 'call_jobs', call_jobs));
END
$$;

-- Stores jobs, all or none, and returns their ids in the order of the jobs. One INSERT; each row is checked
-- where it is read.
CREATE FUNCTION currant.store_jobs(jobs currant.new_job[], idempotency_key text)
RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_jobs constant currant.new_job[] := $1;
    v_key constant text := $2;
    v_count constant int := cardinality($1);
    v_call_jobs constant int := CASE WHEN v_key IS NOT NULL AND v_count > 1 THEN v_count END;
    v_json constant jsonb := '{"content_type": "application/json"}';
    v_names text[];
    v_queues int[];
    v_priorities smallint[];
    -- Of the first job: mostly they're all of one kind, and it is looked at once.
    v_kind constant text := v_jobs[array_lower(v_jobs, 1)].kind;
    v_now timestamptz := clock_timestamp();
    v_latest constant timestamptz := v_now + interval '10 years';
    v_ms bigint := floor(extract(epoch FROM v_now) * 1000);
    v_round bigint;
    v_block bigint;
    v_ids bigint[];
    v_ready boolean;
    v_scheduled boolean;
    v_tagged boolean;
    v_queue currant.queue;
    v_id int;
BEGIN
    IF v_count = 1 THEN
        v_queue := currant.queue_of(v_jobs[array_lower(v_jobs, 1)].queue);
        v_names := ARRAY[v_queue.name];
        v_queues := ARRAY[v_queue.id];
        v_priorities := ARRAY[coalesce(v_queue.priority, 0)];
    ELSE
        -- In one order, so that two calls don't wait for each other's new queues.
        SELECT array_agg((q).name), array_agg((q).id), array_agg(coalesce((q).priority, 0))
        INTO v_names, v_queues, v_priorities
        FROM (SELECT currant.queue_of(queue) AS q
              FROM (SELECT DISTINCT queue FROM unnest(v_jobs) ORDER BY queue) d OFFSET 0) q;
    END IF;
    IF v_call_jobs IS NULL THEN
        -- Two ids are equal only if half a million others are made between the look at the clock and the
        -- one at the sequence, or within a millisecond. When the sequence begins anew among these jobs,
        -- the rest are of the next millisecond.
        v_round := nextval('currant.enqueue_sequence') >> 19;
    ELSE
        -- Two blocks are equal only if 128 such calls begin within a millisecond.
        FOR try IN 1..100 LOOP
            v_now := clock_timestamp();
            v_ms := floor(extract(epoch FROM v_now) * 1000);
            v_block := 896 + (nextval('currant.call_sequence') & 127);
            EXIT WHEN v_ms = floor(extract(epoch FROM clock_timestamp()) * 1000);
        END LOOP;
    END IF;
    WITH stored AS (
        INSERT INTO currant.job (id, queue_id, attempt, priority, phase, run_at, max_attempts, kind, payload,
                                 options, idempotency_key)
        -- The id comes first in a row, and so do the checks.
        SELECT CASE
            WHEN (at = 1 OR kind IS DISTINCT FROM v_kind)
                 AND kind ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$' IS NOT TRUE THEN currant.refuse(
                'kind: 1 to 128 characters of A-Z a-z 0-9 . _ : / -, starting with a letter or digit', place)
            WHEN octet_length(payload) <= 1048576 IS NOT TRUE THEN
                currant.refuse('payload: at most 1048576 bytes', place)
            WHEN char_length(content_type) > 128 THEN
                currant.refuse('content_type: at most 128 characters', place)
            WHEN priority NOT BETWEEN -100 AND 100 THEN currant.refuse('priority: -100 to 100', place)
            WHEN max_attempts NOT BETWEEN 1 AND 1000 THEN currant.refuse('max_attempts: 1 to 1000', place)
            WHEN run_at < '2000-01-01' OR run_at > v_latest THEN
                currant.refuse('run_at: not before 2000, not more than 10 years ahead', place)
            WHEN delay IS NOT NULL AND run_at IS NOT NULL THEN currant.refuse('delay: not beside run_at', place)
            WHEN delay < '0' OR start_at > v_latest THEN
                currant.refuse('delay: 0 s to 10 years', place)
            WHEN v_block IS NULL THEN
                (v_ms + (number >> 19) - v_round << 22) | (768 << 12) | (number & 524287)
            ELSE (v_ms + (at - 1 >> 12) << 22) | (v_block << 12) | (at - 1 & 4095) END,
            v_queues[array_position(v_names, queue)], 0,
            coalesce(priority, v_priorities[array_position(v_names, queue)]),
            CASE WHEN start_at > v_now THEN 0 ELSE 1 END, CASE WHEN start_at > v_now THEN start_at END,
            max_attempts, kind, payload,
            CASE WHEN retry IS DISTINCT FROM NULL OR timeout IS NOT NULL OR tags IS NOT NULL
                      OR metadata IS NOT NULL OR traceparent IS NOT NULL OR at = 1 AND v_call_jobs IS NOT NULL
                 THEN currant.job_options(content_type, retry, timeout, tags, metadata, traceparent,
                                          CASE WHEN at = 1 THEN v_call_jobs END, place)
                 WHEN content_type = 'application/json' THEN v_json
                 WHEN content_type <> '' THEN jsonb_build_object('content_type', content_type) END,
            CASE WHEN at = 1 THEN v_key END
        FROM (SELECT *, CASE WHEN v_count > 1 THEN at END AS place,
                     CASE WHEN v_block IS NULL THEN nextval('currant.enqueue_sequence') END AS number,
                     CASE WHEN delay IS NULL THEN run_at ELSE v_now + least(delay, '3654 days') END AS start_at
              FROM unnest(v_jobs) WITH ORDINALITY
                  AS j (queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry,
                        timeout, tags, metadata, traceparent, at)
              OFFSET 0) n
        RETURNING id, phase, options ?| '{tags,metadata}' AS tagged
    )
    SELECT array_agg(id ORDER BY id), bool_or(phase = 1), bool_or(phase = 0), bool_or(tagged)
    INTO v_ids, v_ready, v_scheduled, v_tagged FROM stored;
    IF v_tagged THEN
        INSERT INTO currant.tag (queue_id, id, tag)
        SELECT j.queue_id, j.id, t.tag
        FROM unnest(v_ids) i, unnest(v_queues) q,
             LATERAL (SELECT * FROM currant.job WHERE queue_id = q AND id = i OFFSET 0) j,
             LATERAL (SELECT jsonb_array_elements_text(j.options -> 'tags')
                      UNION SELECT key || '=' || value FROM jsonb_each_text(j.options -> 'metadata')) AS t (tag);
    END IF;
    -- Equal notifications of one transaction are sent once.
    IF v_scheduled THEN
        PERFORM pg_notify('currant_ready', 'scheduled');
    END IF;
    IF v_ready THEN
        FOREACH v_id IN ARRAY v_queues LOOP
            PERFORM pg_notify('currant_ready', v_id::text);
        END LOOP;
    END IF;
    RETURN v_ids;
END
$$;

-- The ids of a call that is stored already, by a broker or in SQL: each is the successor of the one before.
CREATE FUNCTION currant.stored_call(queue text, idempotency_key text, jobs int)
RETURNS bigint[] LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_first bigint;
    v_count int;
BEGIN
    SELECT j.id, coalesce((j.options ->> 'call_jobs')::int, 1) INTO v_first, v_count
    FROM currant.queue q JOIN currant.job j ON j.queue_id = q.id
    WHERE q.name = $1 AND j.idempotency_key = $2;
    IF v_count <> $3 THEN
        RAISE EXCEPTION 'idempotency_key: was used for another call, of % jobs', v_count
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (SELECT array_agg(((v_first >> 22) + (n >> 12) << 22) | (v_first & (1023 << 12)) | (n & 4095) ORDER BY n)
            FROM generate_series(v_first & 4095, (v_first & 4095) + v_count - 1) n);
END
$$;

-- Stores jobs inside the caller's own transaction, all or none, and wakes the brokers when it commits.
-- Returns their ids, in the order of the jobs. With an idempotency key that is stored already, for the
-- queue of the first job, it stores nothing and returns the ids of the first call.
-- An application needs the right to call this and no other: it does what it does as its owner.
CREATE FUNCTION currant.enqueue_many(jobs currant.new_job[], idempotency_key text DEFAULT NULL)
RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_count constant int := coalesce(cardinality(jobs), 0);
    v_ids bigint[];
    v_constraint text;
BEGIN
    IF v_count = 0 THEN
        RETURN '{}';
    END IF;
    IF v_count > 100000 THEN
        RAISE EXCEPTION 'jobs: at most 100000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF char_length(idempotency_key) > 64 THEN
        RAISE EXCEPTION 'idempotency_key: at most 64 characters' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF coalesce(idempotency_key, '') = '' THEN
        RETURN currant.store_jobs(jobs, NULL);
    END IF;
    FOR try IN 1..10 LOOP
        v_ids := currant.stored_call((SELECT queue FROM unnest(jobs) LIMIT 1), idempotency_key, v_count);
        IF v_ids IS NOT NULL THEN
            RETURN v_ids;
        END IF;
        BEGIN
            RETURN currant.store_jobs(jobs, idempotency_key);
        EXCEPTION WHEN unique_violation THEN
            -- Another transaction was quicker, and has committed.
            GET STACKED DIAGNOSTICS v_constraint = CONSTRAINT_NAME;
            IF v_constraint <> 'job_idempotency' THEN
                RAISE;
            END IF;
        END;
    END LOOP;
    RAISE EXCEPTION 'idempotency_key: stored and deleted by others again and again'
        USING ERRCODE = 'serialization_failure';
END
$$;

DROP FUNCTION currant.enqueue;
DROP FUNCTION currant.enqueue_bytes;

-- One job: see enqueue_many.
CREATE FUNCTION currant.enqueue_bytes(
    queue text, kind text, payload bytea, priority int DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL, content_type text DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, idempotency_key text DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    SELECT (currant.enqueue_many(ARRAY[currant.new_job_bytes(
        queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry, timeout, tags,
        metadata, traceparent)], idempotency_key))[1]
$$;

CREATE FUNCTION currant.enqueue(
    queue text, kind text, payload jsonb DEFAULT 'null', priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, max_attempts int DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, idempotency_key text DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    SELECT (currant.enqueue_many(ARRAY[currant.new_job(
        queue, kind, payload, priority, run_at, max_attempts, delay, retry, timeout, tags, metadata,
        traceparent)], idempotency_key))[1]
$$;

-- Attempts that a transaction is about to complete: a row lives no longer than its transaction.
CREATE UNLOGGED TABLE currant.completion (
    queue_id int NOT NULL,
    id       bigint NOT NULL,
    attempt  int NOT NULL,
    result   bytea
);
CREATE INDEX completion_job ON currant.completion (id, attempt);

-- Says why an attempt can't be completed, unless it can.
CREATE FUNCTION currant.check_attempt(queue_id int, job bigint, attempt int) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_attempt int;
    v_phase smallint;
    v_outcome smallint;
BEGIN
    SELECT j.attempt, j.phase, j.outcome INTO v_attempt, v_phase, v_outcome
    FROM currant.job j WHERE j.queue_id = $1 AND j.id = $2;
    IF v_attempt IS NULL THEN
        RAISE EXCEPTION 'job % isn''t there', $2 USING ERRCODE = 'QC003';
    END IF;
    IF v_attempt <> $3 OR v_outcome IS NULL AND v_phase <> 2 THEN
        RAISE EXCEPTION 'attempt % of job % is no longer current', $3, $2 USING ERRCODE = 'QC001';
    END IF;
    IF v_outcome IS NOT NULL THEN
        RAISE EXCEPTION 'attempt % of job % has its outcome already', $3, $2 USING ERRCODE = 'QC002';
    END IF;
END
$$;

CREATE FUNCTION currant.record_completion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    UPDATE currant.job SET outcome = 1, result = NEW.result, finished_at = clock_timestamp()
    WHERE queue_id = NEW.queue_id AND id = NEW.id AND attempt = NEW.attempt AND phase = 2 AND outcome IS NULL;
    IF NOT FOUND THEN
        PERFORM currant.check_attempt(NEW.queue_id, NEW.id, NEW.attempt);
        RAISE EXCEPTION 'attempt % of job % was no longer current', NEW.attempt, NEW.id USING ERRCODE = 'QC001';
    END IF;
    DELETE FROM currant.completion WHERE id = NEW.id AND attempt = NEW.attempt;
    RETURN NULL;
END
$$;

-- At the COMMIT, however early the function was called: until then nobody who writes to the job has to wait
-- for the worker's transaction.
CREATE CONSTRAINT TRIGGER record_completion AFTER INSERT ON currant.completion
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION currant.record_completion();

-- Records, when the caller's own transaction commits, that an attempt has succeeded. Raises QC001 if the
-- attempt isn't current, QC002 if it has its outcome already, QC003 if there is no such job: now, or when
-- the transaction commits, which it then doesn't. `queue` saves a look into each queue.
CREATE FUNCTION currant.complete(job bigint, attempt int, result bytea DEFAULT NULL, queue text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_queue int;
BEGIN
    IF octet_length($3) > 1048576 THEN
        RAISE EXCEPTION 'result: at most 1048576 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT j.queue_id INTO v_queue
    FROM currant.queue q, LATERAL (SELECT * FROM currant.job WHERE queue_id = q.id AND id = $1 OFFSET 0) j
    WHERE $4 IS NULL OR q.name = $4;
    PERFORM currant.check_attempt(v_queue, $1, $2);
    INSERT INTO currant.completion VALUES (v_queue, $1, $2, nullif($3, ''));
END
$$;

REVOKE EXECUTE ON FUNCTION currant.enqueue, currant.enqueue_bytes, currant.enqueue_many, currant.store_jobs,
    currant.stored_call, currant.job_options, currant.queue_of, currant.refuse, currant.complete,
    currant.check_attempt, currant.record_completion FROM PUBLIC;
