-- How many jobs more a queue's sessions at a broker can take, as it told last.
ALTER TABLE currant.queue_load ADD COLUMN free int NOT NULL DEFAULT 0;
