-- The version of this schema that a broker has to know, to run on it as it is now. While brokers are replaced one by
-- one, old ones run on, and start anew, beside those that have migrated. A migration that takes away, or gives another
-- meaning to, what brokers of earlier versions use raises it.
CREATE TABLE currant.oldest_broker (
    id      int PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version int NOT NULL
);
INSERT INTO currant.oldest_broker (version) VALUES (17);
