-- As in V12. A job that was tried and waits holds up those of its key where keys are ordered: when it is replaced by
-- one of another key brokers look for those, as they do when it is cancelled.
CREATE OR REPLACE FUNCTION currant.enqueue_unique(
    job currant.new_job, key text, scope text DEFAULT 'unfinished', period interval DEFAULT NULL,
    conflict text DEFAULT 'existing', OUT id bigint, OUT verdict text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    v_problem text := CASE
        WHEN $2 = '' OR char_length($2) > 128 THEN 'unique: key: 1 to 128 characters'
        WHEN ($3 IN ('waiting', 'unfinished', 'period')) IS NOT TRUE THEN 'unique: scope: waiting, unfinished or period'
        WHEN ($5 IN ('existing', 'replace', 'reject')) IS NOT TRUE THEN 'unique: conflict: existing, replace or reject'
        WHEN $3 <> 'period' AND $4 IS NOT NULL THEN 'unique: period: only with the scope period'
        WHEN $3 = 'period' AND ($4 BETWEEN '1 s' AND '3653 days') IS NOT TRUE
            THEN 'unique: period: 1 s to 10 years' END;
    v_queue int;
    v_other bigint;
    v_phase smallint;
    v_outcome smallint;
    v_held boolean;
    v_tried boolean;
    v_new currant.job;
BEGIN
    verdict := 'stored';
    IF v_problem IS NOT NULL THEN
        PERFORM currant.refuse(v_problem, NULL);
    END IF;
    IF $2 IS NULL THEN
        id := (currant.store_jobs(ARRAY[$1], NULL))[1];
        RETURN;
    END IF;
    v_queue := (currant.queue_of($1.queue)).id;
    -- From here on the key is this transaction's, whoever else wants it.
    INSERT INTO currant.unique_key AS u (queue_id, key, id) VALUES (v_queue, $2, 0)
    ON CONFLICT (queue_id, key) DO UPDATE SET key = EXCLUDED.key
    RETURNING u.id INTO v_other;
    SELECT j.phase, j.outcome INTO v_phase, v_outcome FROM currant.job j
    WHERE j.queue_id = v_queue AND j.id = v_other;
    v_held := v_phase IS NOT NULL AND CASE $3
        WHEN 'waiting' THEN v_outcome IS NULL AND v_phase < 2
        WHEN 'unfinished' THEN v_outcome IS NULL
        ELSE to_timestamp((v_other >> 22) / 1000.0) > clock_timestamp() - $4 END;
    IF v_held AND $5 = 'reject' THEN
        RAISE EXCEPTION 'the key % is that of job %', $2, v_other USING ERRCODE = 'QC004';
    END IF;
    IF v_held AND $5 = 'existing' THEN
        id := v_other;
        verdict := 'existing';
        RETURN;
    END IF;
    id := (currant.store_jobs(ARRAY[$1], NULL))[1];
    IF v_held THEN
        -- Stored for its checks alone: the other one takes over what it has.
        DELETE FROM currant.job j WHERE j.queue_id = v_queue AND j.id = enqueue_unique.id RETURNING j.* INTO v_new;
        UPDATE currant.job j
        SET kind = v_new.kind, payload = v_new.payload, priority = v_new.priority, phase = v_new.phase,
            run_at = v_new.run_at, max_attempts = v_new.max_attempts, options = v_new.options, key = v_new.key
        WHERE j.queue_id = v_queue AND j.id = v_other AND j.outcome IS NULL AND j.phase < 2
        RETURNING j.attempt > 0 INTO v_tried;
        IF FOUND THEN
            DELETE FROM currant.tag t WHERE t.queue_id = v_queue AND t.id = v_other;
            UPDATE currant.tag t SET id = v_other WHERE t.queue_id = v_queue AND t.id = enqueue_unique.id;
            IF v_tried THEN
                PERFORM pg_notify('currant_ready', v_queue || 'k');
            END IF;
            id := v_other;
            verdict := 'replaced';
            RETURN;
        END IF;
        DELETE FROM currant.tag t WHERE t.queue_id = v_queue AND t.id = enqueue_unique.id;
        IF $3 <> 'waiting' THEN
            id := v_other;
            verdict := 'existing';
            RETURN;
        END IF;
        -- It was taken a moment ago, and is in nobody's way any more.
        id := (currant.store_jobs(ARRAY[$1], NULL))[1];
    END IF;
    UPDATE currant.unique_key u SET id = enqueue_unique.id WHERE u.queue_id = v_queue AND u.key = $2;
END
$$;
REVOKE EXECUTE ON FUNCTION currant.enqueue_unique FROM PUBLIC;
