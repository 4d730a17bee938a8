-- Jobs that expire: stored by SQL, unique ones, and those of schedules.
ALTER TABLE currant.schedule
    -- The jobs of a fire start so long after its time at the latest. Null: they don't expire.
    ADD COLUMN expire_after_ms bigint CHECK (expire_after_ms BETWEEN 1 AND 315360000000);

-- Those who may call the functions that follow, which are created anew for the sake of two arguments more.
CREATE TEMP TABLE granted ON COMMIT DROP AS
SELECT p.proname AS name, a.grantee::regrole::text AS role
FROM pg_proc p, aclexplode(p.proacl) a
WHERE p.pronamespace = 'currant'::regnamespace AND p.proname IN ('enqueue', 'enqueue_bytes')
  AND a.privilege_type = 'EXECUTE' AND a.grantee NOT IN (0, p.proowner);
DROP FUNCTION currant.enqueue;
DROP FUNCTION currant.enqueue_bytes;
DROP FUNCTION currant.new_job;
DROP FUNCTION currant.new_job_bytes;
DROP FUNCTION currant.job_options;

ALTER TYPE currant.new_job ADD ATTRIBUTE expire_at timestamptz, ADD ATTRIBUTE expire_after interval;

CREATE FUNCTION currant.new_job_bytes(
    queue text, kind text, payload bytea, priority int DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL, content_type text DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, key text DEFAULT NULL,
    expire_at timestamptz DEFAULT NULL, expire_after interval DEFAULT NULL
) RETURNS currant.new_job LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry, timeout,
               tags, metadata, traceparent, key, expire_at, expire_after)::currant.new_job
$$;

CREATE FUNCTION currant.new_job(
    queue text, kind text, payload jsonb DEFAULT 'null', priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, max_attempts int DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, key text DEFAULT NULL,
    expire_at timestamptz DEFAULT NULL, expire_after interval DEFAULT NULL
) RETURNS currant.new_job LANGUAGE sql STABLE AS $$
    SELECT ROW(queue, kind, convert_to(payload::text, 'UTF8'), priority, run_at, max_attempts,
               'application/json', delay, retry, timeout, tags, metadata, traceparent, key, expire_at,
               expire_after)::currant.new_job
$$;

CREATE FUNCTION currant.enqueue_bytes(
    queue text, kind text, payload bytea, priority int DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    max_attempts int DEFAULT NULL, content_type text DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, idempotency_key text DEFAULT NULL,
    key text DEFAULT NULL, expire_at timestamptz DEFAULT NULL, expire_after interval DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    SELECT (currant.enqueue_many(ARRAY[currant.new_job_bytes(
        queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry, timeout, tags,
        metadata, traceparent, key, expire_at, expire_after)], idempotency_key))[1]
$$;

CREATE FUNCTION currant.enqueue(
    queue text, kind text, payload jsonb DEFAULT 'null', priority int DEFAULT NULL,
    run_at timestamptz DEFAULT NULL, max_attempts int DEFAULT NULL, delay interval DEFAULT NULL,
    retry currant.retry_policy DEFAULT NULL, timeout interval DEFAULT NULL, tags text[] DEFAULT NULL,
    metadata jsonb DEFAULT NULL, traceparent text DEFAULT NULL, idempotency_key text DEFAULT NULL,
    key text DEFAULT NULL, expire_at timestamptz DEFAULT NULL, expire_after interval DEFAULT NULL
) RETURNS bigint LANGUAGE sql AS $$
    SELECT (currant.enqueue_many(ARRAY[currant.new_job(
        queue, kind, payload, priority, run_at, max_attempts, delay, retry, timeout, tags, metadata,
        traceparent, key, expire_at, expire_after)], idempotency_key))[1]
$$;

REVOKE EXECUTE ON FUNCTION currant.enqueue, currant.enqueue_bytes FROM PUBLIC;
DO $$ DECLARE
    v_one record;
BEGIN
    FOR v_one IN SELECT * FROM granted LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION currant.%I TO %s', v_one.name, v_one.role);
    END LOOP;
END
$$;

-- As in V13, with the time after which no attempt begins.
CREATE FUNCTION currant.job_options(
    content_type text, retry currant.retry_policy, timeout interval, tags text[], metadata jsonb,
    traceparent text, end_at timestamptz, call_jobs int, place bigint
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    v_timeout_ms bigint := ceil(extract(epoch FROM timeout) * 1000);
BEGIN
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
        'content_type', nullif(content_type, ''),
        'retry', CASE WHEN retry IS DISTINCT FROM NULL THEN currant.retry_options(retry, place) END,
        'timeout_ms', v_timeout_ms, 'expires_at', (extract(epoch FROM end_at) * 1000000)::bigint,
        'tags', CASE WHEN cardinality(tags) > 0 THEN to_jsonb(tags) END, 'metadata', nullif(metadata, '{}'),
        'traceparent', nullif(traceparent, ''), 'call_jobs', call_jobs));
END
$$;

REVOKE EXECUTE ON FUNCTION currant.job_options FROM PUBLIC;

-- As in V11, with that.
CREATE OR REPLACE FUNCTION currant.store_jobs(jobs currant.new_job[], idempotency_key text)
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
    v_keyed boolean;
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
                                 options, idempotency_key, key)
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
            WHEN key = '' OR char_length(key) > 128 THEN currant.refuse('key: 1 to 128 characters', place)
            WHEN run_at < '2000-01-01' OR run_at > v_latest THEN
                currant.refuse('run_at: not before 2000, not more than 10 years ahead', place)
            WHEN delay IS NOT NULL AND run_at IS NOT NULL THEN currant.refuse('delay: not beside run_at', place)
            WHEN delay < '0' OR start_at > v_latest THEN
                currant.refuse('delay: 0 s to 10 years', place)
            WHEN expire_after IS NOT NULL AND expire_at IS NOT NULL THEN
                currant.refuse('expire_after: not beside expire_at', place)
            WHEN expire_at < '2000-01-01' OR expire_at > v_latest THEN
                currant.refuse('expire_at: not before 2000, not more than 10 years ahead', place)
            WHEN expire_after < '1 ms' OR expire_after > '3653 days' THEN
                currant.refuse('expire_after: 1 ms to 10 years', place)
            WHEN end_at < start_at THEN currant.refuse('expire_at: not before it may start', place)
            WHEN v_block IS NULL THEN
                (v_ms + (number >> 19) - v_round << 22) | (768 << 12) | (number & 524287)
            ELSE (v_ms + (at - 1 >> 12) << 22) | (v_block << 12) | (at - 1 & 4095) END,
            v_queues[array_position(v_names, queue)], 0,
            coalesce(priority, v_priorities[array_position(v_names, queue)]),
            CASE WHEN start_at > v_now THEN 0 ELSE 1 END, CASE WHEN start_at > v_now THEN start_at END,
            max_attempts, kind, payload,
            CASE WHEN retry IS DISTINCT FROM NULL OR timeout IS NOT NULL OR tags IS NOT NULL
                      OR metadata IS NOT NULL OR traceparent IS NOT NULL OR end_at IS NOT NULL
                      OR at = 1 AND v_call_jobs IS NOT NULL
                 THEN currant.job_options(content_type, retry, timeout, tags, metadata, traceparent, end_at,
                                          CASE WHEN at = 1 THEN v_call_jobs END, place)
                 WHEN content_type = 'application/json' THEN v_json
                 WHEN content_type <> '' THEN jsonb_build_object('content_type', content_type) END,
            CASE WHEN at = 1 THEN v_key END, key
        FROM (SELECT *, CASE WHEN v_count > 1 THEN at END AS place,
                     CASE WHEN v_block IS NULL THEN nextval('currant.enqueue_sequence') END AS number,
                     CASE WHEN delay IS NULL THEN run_at ELSE v_now + least(delay, '3654 days') END AS start_at,
                     CASE WHEN expire_after IS NULL THEN expire_at
                          ELSE v_now + least(expire_after, '3654 days') END AS end_at
              FROM unnest(v_jobs) WITH ORDINALITY
                  AS j (queue, kind, payload, priority, run_at, max_attempts, content_type, delay, retry,
                        timeout, tags, metadata, traceparent, key, expire_at, expire_after, at)
              OFFSET 0) n
        RETURNING id, phase, key IS NOT NULL AS keyed, options ?| '{tags,metadata}' AS tagged
    )
    SELECT array_agg(id ORDER BY id), bool_or(phase = 1 AND NOT keyed), bool_or(phase = 1 AND keyed),
           bool_or(phase = 0), bool_or(tagged)
    INTO v_ids, v_ready, v_keyed, v_scheduled, v_tagged FROM stored;
    IF v_tagged THEN
        INSERT INTO currant.tag (queue_id, id, tag)
        SELECT j.queue_id, j.id, t.tag
        FROM unnest(v_ids) i, unnest(v_queues) q,
             LATERAL (SELECT * FROM currant.job WHERE queue_id = q AND id = i OFFSET 0) j,
             LATERAL (SELECT jsonb_array_elements_text(j.options -> 'tags')
                      UNION SELECT m.name || '=' || m.value
                      FROM jsonb_each_text(j.options -> 'metadata') AS m (name, value)) AS t (tag);
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
    IF v_keyed THEN
        FOREACH v_id IN ARRAY v_queues LOOP
            PERFORM pg_notify('currant_ready', v_id || 'k');
        END LOOP;
    END IF;
    RETURN v_ids;
END
$$;
