-- Who may look at jobs, but not at what they carry.
ALTER TABLE currant.token DROP CONSTRAINT token_scopes_check;
ALTER TABLE currant.token ADD CONSTRAINT token_scopes_check
    CHECK (scopes <@ '{enqueue,work,view,read,admin}' AND cardinality(scopes) BETWEEN 1 AND 5);
