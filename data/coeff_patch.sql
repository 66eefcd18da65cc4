-- The coefficient fix by hand: counts, backup, update and check of the columns coeff_0 to coeff_9 of zpix and ztile, after
-- "specprod-load coeff-fix load" has loaded the patch. It does what "specprod-load coeff-fix apply" does, in one
-- transaction; what goes wrong stops it, with exit status 3 and a database that is as it was.
--
--     psql -v specprod=iron -f data/coeff_patch.sql DATABASE
--
-- Variables, each given with -v NAME=VALUE:
--
--     specprod  schema of the production. Required.
--     schema    schema of the patch tables zpixpatch, ztilepatch; by default coeff_patch_{specprod}.
--     table     zpix or ztile, to fix only that one; by default both.
--     backup    on: keep the old coefficients in zpixbackup, ztilebackup beside the patch, from which
--               "specprod-load coeff-fix undo" restores them.
--     rename    desi_edr or desi_dr1: afterwards give the patch schema the name that goes with the name of the production
--               at the Astro Data Lab, coeff_patch_desi_edr or coeff_patch_desi_dr1. Dump it, restore the dump there, and
--               run this file there with -v specprod=desi_edr or -v specprod=desi_dr1.

\set ON_ERROR_STOP on
\set QUIET on

\if :{?specprod}
\else
    \warn 'Give the schema of the production: psql -v specprod=iron -f data/coeff_patch.sql DATABASE'
    DO $$ BEGIN RAISE EXCEPTION 'variable specprod is not set'; END $$;
\endif
\if :{?schema}
\else
    \set schema coeff_patch_ :specprod
\endif
\if :{?table}
\else
    \set table both
\endif
\if :{?backup}
\else
    \set backup off
\endif

BEGIN;
SET LOCAL synchronous_commit = on;

-- One table: its name, the schemas of the production and of the patch, whether to keep the old values.
CREATE FUNCTION pg_temp.coeff_fix(name text, production text, schema text, backup boolean,
                                  OUT "table" text, OUT rows bigint, OUT changed bigint, OUT saved bigint)
LANGUAGE plpgsql AS $function$
DECLARE
    -- SET list, column list, and the condition that a row differs; z is the production, p the patch.
    settings text := (SELECT string_agg(format('coeff_%1$s = p.coeff_%1$s', i), ', ') FROM generate_series(0, 9) AS i);
    columns text := (SELECT string_agg(format('z.coeff_%s', i), ', ') FROM generate_series(0, 9) AS i);
    differ text := (SELECT '(' || string_agg(format('z.coeff_%1$s IS DISTINCT FROM p.coeff_%1$s', i), ' OR ') || ')'
                    FROM generate_series(0, 9) AS i);
    zs text := format('%I.%I', production, name);
    ps text := format('%I.%I', schema, name || 'patch');
    bs text := format('%I.%I', schema, name || 'backup');
    patched bigint;
    joined bigint;
    differing bigint;
BEGIN
    "table" := name;
    IF to_regclass(zs) IS NULL OR to_regclass(ps) IS NULL THEN
        RAISE EXCEPTION 'there is no table %, or no table %', zs, ps;
    END IF;
    -- A patch table gets its key when all its rows are in.
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(ps) AND contype = 'p') THEN
        RAISE EXCEPTION 'the load of table % did not end; load it again', ps;
    END IF;
    -- Others can go on reading, but not write.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', zs);
    EXECUTE format('LOCK TABLE %s IN SHARE MODE', ps);

    EXECUTE format('SELECT count(*) FROM %s', zs) INTO rows;
    EXECUTE format('SELECT count(*) FROM %s', ps) INTO patched;
    EXECUTE format('SELECT count(*), count(*) FILTER (WHERE %s) FROM %s AS z JOIN %s AS p ON z.id = p.id', differ, zs, ps)
        INTO joined, differing;
    IF rows <> patched OR rows <> joined THEN
        RAISE EXCEPTION '% has % rows, its patch %, and % have the same id', name, rows, patched, joined;
    END IF;

    IF backup AND differing > 0 THEN
        IF to_regclass(bs) IS NOT NULL THEN
            RAISE EXCEPTION 'table % holds the backup of an earlier fix; undo that fix, or drop the table', bs;
        END IF;
        EXECUTE format('CREATE TABLE %s AS SELECT z.id, %s FROM %s AS z JOIN %s AS p ON z.id = p.id WHERE %s',
                       bs, columns, zs, ps, differ);
        GET DIAGNOSTICS saved = ROW_COUNT;
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I PRIMARY KEY (id)', bs, name || 'backup_pkey');
    END IF;

    EXECUTE format('UPDATE %s AS z SET %s FROM %s AS p WHERE z.id = p.id AND %s', zs, settings, ps, differ);
    GET DIAGNOSTICS changed = ROW_COUNT;

    EXECUTE format('SELECT count(*) FROM %s AS z JOIN %s AS p ON z.id = p.id WHERE %s', zs, ps, differ) INTO differing;
    IF differing > 0 THEN
        RAISE EXCEPTION '% rows of % differ after the fix', differing, name;
    END IF;
END
$function$;

SELECT fix.*
FROM unnest(CASE :'table' WHEN 'both' THEN ARRAY['zpix', 'ztile'] ELSE ARRAY[:'table'] END) AS chosen(name),
     LATERAL pg_temp.coeff_fix(chosen.name, :'specprod', :'schema', :'backup') AS fix;

\if :{?rename}
    SELECT :'rename' IN ('desi_edr', 'desi_dr1') AS known \gset
    \if :known
        \set renamed coeff_patch_ :rename
        ALTER SCHEMA :"schema" RENAME TO :"renamed";
        \echo Schema :schema is now :renamed.
    \else
        DO $$ BEGIN RAISE EXCEPTION 'rename must be desi_edr or desi_dr1'; END $$;
    \endif
\endif

COMMIT;
