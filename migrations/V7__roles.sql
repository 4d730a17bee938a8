-- For roles that may store jobs and nothing else (docs/security.md): the functions do what they do as their
-- owner, whatever the caller puts in the way of a name, and are for those to whom they are granted.
ALTER FUNCTION currant.enqueue_bytes SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
REVOKE EXECUTE ON FUNCTION currant.enqueue_bytes, currant.enqueue FROM PUBLIC;
