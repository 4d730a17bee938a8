-- Upkeep that one broker does for all, as long as it goes on saying so.
CREATE TABLE currant.duty (
    name  text PRIMARY KEY,
    owner int NOT NULL,             -- the broker incarnation that does it
    until timestamptz NOT NULL      -- another may take it from then on
);
