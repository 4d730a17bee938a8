-- Keys of a queue whose turns are longer than those of its other keys: from a key to its weight. Null: none.
ALTER TABLE currant.queue ADD COLUMN key_weights jsonb CHECK (
    jsonb_typeof(key_weights) = 'object'
    AND jsonb_array_length(jsonb_path_query_array(key_weights, '$.*')) <= 100
    AND jsonb_path_query_array(key_weights, '$.*')
        = jsonb_path_query_array(key_weights, '$.* ? (@ >= 1 && @ <= 100 && @ == @.floor())'));
