-- Who makes work for the sensors says that there is some, and nothing about it: a listener in this tenant's plane then has the workspace
-- look at once. Nothing depends on it. Runs say nothing: the workspace sees them end, and their partition waits until then. Nor does a
-- withdrawal, which takes work away.
CREATE FUNCTION system.tell_of_work() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF system.setting('run_id') IS NULL THEN
        PERFORM pg_notify('ntro_work', '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tells_of_work AFTER INSERT ON system.signals
    FOR EACH STATEMENT EXECUTE FUNCTION system.tell_of_work();
CREATE TRIGGER tells_of_work AFTER INSERT ON ingest.intake
    FOR EACH STATEMENT EXECUTE FUNCTION system.tell_of_work();
CREATE TRIGGER tells_of_work AFTER INSERT OR UPDATE ON system.partition_activity
    FOR EACH STATEMENT EXECUTE FUNCTION system.tell_of_work();
