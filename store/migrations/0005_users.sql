-- A miner has one name, the user: what an identity (USER[.WORKER]) has before its first dot. Shares were
-- always told by it, declarations and blocks by the whole identity until here. Events stay as they were
-- written, and so do closed intervals of the accounting feed.

-- What comes after the dot.
ALTER TABLE miner_templates ADD COLUMN worker TEXT NOT NULL DEFAULT '';

UPDATE miner_templates
    SET worker = substr(user_id, instr(user_id, '.') + 1),
        user_id = substr(user_id, 1, instr(user_id, '.') - 1)
    WHERE instr(user_id, '.') > 0;
UPDATE blocks SET user_id = substr(user_id, 1, instr(user_id, '.') - 1) WHERE instr(user_id, '.') > 0;
UPDATE tokens SET user_id = substr(user_id, 1, instr(user_id, '.') - 1) WHERE instr(user_id, '.') > 0;

-- A block that was found in the interval which is open: as those after it.
UPDATE accounting SET user_id = substr(user_id, 1, instr(user_id, '.') - 1)
    WHERE block_hash IS NOT NULL AND instr(user_id, '.') > 0
        AND interval_id IN (SELECT id FROM accounting_intervals WHERE closed_at IS NULL);

-- Totals come together. What was reached once stays; 1,000 accepted templates that nobody had alone are
-- told with the next one.
INSERT INTO users (user_id, first_seen, last_seen, templates_accepted_total,
        templates_rejected_total, shares_accepted_miner, shares_accepted_pool, shares_rejected,
        blocks_found, sovereign_miner_at, node_runner_at, template_crafter_at)
    SELECT substr(user_id, 1, instr(user_id, '.') - 1), min(first_seen), max(last_seen),
        sum(templates_accepted_total), sum(templates_rejected_total), sum(shares_accepted_miner),
        sum(shares_accepted_pool), sum(shares_rejected), sum(blocks_found),
        min(sovereign_miner_at), min(node_runner_at), min(template_crafter_at)
    FROM users WHERE instr(user_id, '.') > 0 GROUP BY 1
    ON CONFLICT (user_id) DO UPDATE SET
        first_seen = min(first_seen, excluded.first_seen),
        last_seen = max(last_seen, excluded.last_seen),
        templates_accepted_total = templates_accepted_total + excluded.templates_accepted_total,
        templates_rejected_total = templates_rejected_total + excluded.templates_rejected_total,
        shares_accepted_miner = shares_accepted_miner + excluded.shares_accepted_miner,
        shares_accepted_pool = shares_accepted_pool + excluded.shares_accepted_pool,
        shares_rejected = shares_rejected + excluded.shares_rejected,
        blocks_found = blocks_found + excluded.blocks_found,
        sovereign_miner_at = coalesce(min(sovereign_miner_at, excluded.sovereign_miner_at),
            sovereign_miner_at, excluded.sovereign_miner_at),
        node_runner_at = coalesce(min(node_runner_at, excluded.node_runner_at),
            node_runner_at, excluded.node_runner_at),
        template_crafter_at = coalesce(min(template_crafter_at, excluded.template_crafter_at),
            template_crafter_at, excluded.template_crafter_at);
DELETE FROM users WHERE instr(user_id, '.') > 0;

INSERT INTO aggregates (period, scope, user_id, start, template_source, shares_accepted,
        shares_rejected, difficulty, templates_accepted, templates_rejected, blocks_found)
    SELECT period, scope, substr(user_id, 1, instr(user_id, '.') - 1), start, template_source,
        sum(shares_accepted), sum(shares_rejected), sum(difficulty), sum(templates_accepted),
        sum(templates_rejected), sum(blocks_found)
    FROM aggregates WHERE instr(user_id, '.') > 0 GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (period, scope, user_id, start, template_source) DO UPDATE SET
        shares_accepted = shares_accepted + excluded.shares_accepted,
        shares_rejected = shares_rejected + excluded.shares_rejected,
        difficulty = difficulty + excluded.difficulty,
        templates_accepted = templates_accepted + excluded.templates_accepted,
        templates_rejected = templates_rejected + excluded.templates_rejected,
        blocks_found = blocks_found + excluded.blocks_found;
DELETE FROM aggregates WHERE instr(user_id, '.') > 0;

-- They are fewer or shorter, and so is what the writer has counted of them.
UPDATE table_sizes SET
    rows = (SELECT count(*) FROM accounting),
    bytes = (SELECT coalesce(sum(280 + octet_length(user_id)), 0) FROM accounting)
    WHERE name = 'accounting';
UPDATE table_sizes SET
    rows = (SELECT count(*) FROM users),
    bytes = (SELECT coalesce(sum(150 + octet_length(user_id)), 0) FROM users)
    WHERE name = 'users';
UPDATE table_sizes SET
    rows = (SELECT count(*) FROM aggregates),
    bytes = (SELECT coalesce(sum(160 + octet_length(user_id)), 0) FROM aggregates)
    WHERE name = 'aggregates';
