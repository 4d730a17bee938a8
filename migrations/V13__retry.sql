-- Retry policies of other forms than the exponential one, and by kind.
ALTER TABLE currant.queue
    -- Comes before the columns retry_*, which hold an exponential one; as in currant.job.options.
    ADD COLUMN retry         jsonb CHECK (jsonb_typeof(retry) = 'object'),
    -- From kinds to policies, which come before the queue's own.
    ADD COLUMN retry_by_kind jsonb CHECK (jsonb_typeof(retry_by_kind) = 'object');

-- Null `step` and `delays`: an exponential policy; with `step` a linear one, with `delays` a list.
ALTER TYPE currant.retry_policy ADD ATTRIBUTE step interval, ADD ATTRIBUTE delays interval[];

CREATE OR REPLACE FUNCTION currant.exponential_retry(
    base_delay interval DEFAULT NULL, max_delay interval DEFAULT NULL,
    factor double precision DEFAULT NULL, jitter double precision DEFAULT NULL
) RETURNS currant.retry_policy LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(base_delay, max_delay, factor, jitter, NULL, NULL)::currant.retry_policy
$$;

CREATE FUNCTION currant.linear_retry(
    base_delay interval DEFAULT NULL, step interval DEFAULT NULL, max_delay interval DEFAULT NULL,
    jitter double precision DEFAULT NULL
) RETURNS currant.retry_policy LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(base_delay, max_delay, NULL, jitter, coalesce(step, base_delay, '1 s'), NULL)::currant.retry_policy
$$;

CREATE FUNCTION currant.fixed_retry(delay interval DEFAULT NULL, jitter double precision DEFAULT NULL)
RETURNS currant.retry_policy LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(NULL, NULL, NULL, jitter, NULL, ARRAY[coalesce(delay, '1 s')])::currant.retry_policy
$$;

CREATE FUNCTION currant.list_retry(delays interval[], jitter double precision DEFAULT NULL)
RETURNS currant.retry_policy LANGUAGE sql IMMUTABLE AS $$
    SELECT ROW(NULL, NULL, NULL, jitter, NULL, coalesce(delays, '{}'))::currant.retry_policy
$$;

-- A policy as in currant.job.options.
CREATE FUNCTION currant.retry_options(retry currant.retry_policy, place bigint) RETURNS jsonb LANGUAGE plpgsql
AS $$
DECLARE
    -- A wait of less than a millisecond is one of a millisecond.
    v_base_ms bigint := coalesce(ceil(extract(epoch FROM retry.base_delay) * 1000), 1000);
    v_max_ms bigint := coalesce(ceil(extract(epoch FROM retry.max_delay) * 1000), greatest(v_base_ms, 3600000));
    v_step_ms bigint := ceil(extract(epoch FROM retry.step) * 1000);
    v_waits_ms bigint[] := CASE WHEN retry.delays IS NOT NULL THEN
        ARRAY(SELECT ceil(extract(epoch FROM d) * 1000)::bigint FROM unnest(retry.delays) WITH ORDINALITY AS u (d, n)
              ORDER BY n) END;
    v_factor double precision := coalesce(nullif(retry.factor, 0), 2);
    v_jitter double precision := coalesce(retry.jitter, 0.1);
BEGIN
    PERFORM currant.refuse(problem, place) FROM (SELECT CASE
        WHEN v_base_ms NOT BETWEEN 1 AND 315360000000 THEN 'retry: base_delay: 1 ms to 10 years'
        WHEN v_max_ms NOT BETWEEN v_base_ms AND 315360000000
            THEN 'retry: max_delay: not below base_delay, at most 10 years'
        WHEN v_step_ms NOT BETWEEN 0 AND 315360000000 THEN 'retry: step: 0 s to 10 years'
        WHEN cardinality(v_waits_ms) NOT BETWEEN 1 AND 100
             OR EXISTS (SELECT FROM unnest(v_waits_ms) w WHERE (w BETWEEN 0 AND 315360000000) IS NOT TRUE)
            THEN 'retry: delays: 1 to 100 of 0 s to 10 years'
        WHEN v_factor NOT BETWEEN 1 AND 100 THEN 'retry: factor: 1 to 100'
        WHEN v_jitter NOT BETWEEN 0 AND 1 THEN 'retry: jitter: 0 to 1'
        END) AS c (problem) WHERE problem IS NOT NULL;
    RETURN jsonb_build_object('jitter', v_jitter) || CASE
        WHEN v_waits_ms IS NOT NULL THEN jsonb_build_object('waits_ms', v_waits_ms)
        WHEN v_step_ms IS NOT NULL
            THEN jsonb_build_object('base_ms', v_base_ms, 'step_ms', v_step_ms, 'max_ms', v_max_ms)
        ELSE jsonb_build_object('base_ms', v_base_ms, 'max_ms', v_max_ms, 'factor', v_factor) END;
END
$$;

CREATE OR REPLACE FUNCTION currant.job_options(
    content_type text, retry currant.retry_policy, timeout interval, tags text[], metadata jsonb,
    traceparent text, call_jobs int, place bigint
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
        'timeout_ms', v_timeout_ms,
        'tags', CASE WHEN cardinality(tags) > 0 THEN to_jsonb(tags) END, 'metadata', nullif(metadata, '{}'),
        'traceparent', nullif(traceparent, ''), 'call_jobs', call_jobs));
END
$$;

REVOKE EXECUTE ON FUNCTION currant.retry_options FROM PUBLIC;
