-- What changed since: asked by transaction, because numbers of changes are drawn before they are committed, and one that is committed
-- late would be passed over.
CREATE INDEX changes_txid_idx ON system.changes (txid);
