-- How the shares of an entry came: a pool that hands shares in has their verdicts already, and does not
-- credit them twice. Entries of before do not say it: shares of both ways are in one.
ALTER TABLE accounting ADD COLUMN origin VARCHAR(4) NOT NULL DEFAULT ''
    CHECK (origin IN ('port', 'pool', ''));          -- '': not known, or a row of a block

DROP INDEX accounting_work;
CREATE UNIQUE INDEX accounting_work ON accounting
    (interval_id, user_id, template_source, template_hash, pool_payout_sat, claimable_sat, origin)
    WHERE block_hash IS NULL;
