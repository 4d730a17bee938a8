-- Who may call the broker, and what admins did.
CREATE TABLE currant.token (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 128),   -- for people
    hash         bytea CHECK (octet_length(hash) = 32),    -- blake3 of the secret, which is stored nowhere
    certificate  text CHECK (char_length(certificate) BETWEEN 1 AND 255),     -- or a name in a client's certificate
    scopes       text[] NOT NULL CHECK (scopes <@ '{enqueue,work,read,admin}' AND cardinality(scopes) BETWEEN 1 AND 4),
    queues       text[] NOT NULL CHECK (cardinality(queues) BETWEEN 1 AND 100),   -- names, or beginnings before a *
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,           -- null: never
    revoked_at   timestamptz,
    last_used_at timestamptz,           -- to about a minute
    CHECK ((hash IS NULL) <> (certificate IS NULL))
);
CREATE UNIQUE INDEX token_certificate ON currant.token (certificate) WHERE revoked_at IS NULL;

-- Admins' calls: one row each, written before it is carried out.
CREATE TABLE currant.audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    token_id bigint,                    -- of who called; null: the program, by somebody with access to the database
    name     text NOT NULL,             -- that token's, which may be gone by now
    action   text NOT NULL,             -- cancel, retry, delete, create_token, revoke_token
    jobs     bigint[],                  -- what was asked for: jobs,
    subject  bigint                     -- or a token
);
CREATE INDEX audit_at ON currant.audit (at);
