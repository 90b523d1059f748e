-- The event log as a hash chain: each event's hash is over the one before, its id and its bytes.
-- Events from before have none; the chain begins after them.
ALTER TABLE events ADD COLUMN hash BLOB CHECK (hash IS NULL OR length(hash) = 32);

INSERT INTO meta (name, value)
    SELECT 'events_anchor', max(id) || ' ' || printf('%064d', 0) FROM events HAVING max(id) > 0;

-- Signatures over the chain as far as an event.
CREATE TABLE event_heads (
    event_id  INTEGER PRIMARY KEY,
    epoch     TEXT NOT NULL,
    hash      BLOB NOT NULL,
    signed_at INTEGER NOT NULL,
    server    BLOB NOT NULL,
    key_id    BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
