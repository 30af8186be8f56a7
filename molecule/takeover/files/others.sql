-- What roles outside the model can effectively do in this database, and what is theirs. One line each.
\set ours '\'{"App User","reader\'\'s",migrate,"Ädmin"}\''
SELECT 'role', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit, rolvaliduntil, md5(rolpassword),
       ARRAY(SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = a.oid ORDER BY 1),
       ARRAY(SELECT g.rolname::text || m.admin_option FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
             WHERE m.member = a.oid ORDER BY 1)
  FROM pg_authid a WHERE rolname <> ALL(:ours::name[]) AND rolname !~ '^pg_' ORDER BY 2;

CREATE TEMPORARY VIEW others AS SELECT oid, rolname FROM pg_roles WHERE rolname <> ALL(:ours::name[]) AND rolname !~ '^pg_';
SELECT 'database', rolname, datname, p FROM others, pg_database d, unnest('{CONNECT,CREATE,TEMPORARY}'::text[]) p
 WHERE has_database_privilege(others.oid, d.oid, p) ORDER BY 2, 3, 4;
SELECT 'schema', rolname, nspname, p FROM others, pg_namespace n,
       unnest('{USAGE,CREATE,USAGE WITH GRANT OPTION}'::text[]) p
 WHERE nspname !~ '^pg_t' AND has_schema_privilege(others.oid, n.oid, p) ORDER BY 2, 3, 4;
SELECT 'relation', rolname, c.oid::regclass, p FROM others, pg_class c,
       unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,SELECT WITH GRANT OPTION}'::text[]) p
 WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace::regnamespace::text !~ '^(pg_|information)'
   AND has_table_privilege(others.oid, c.oid, p) ORDER BY 2, 3, 4;
SELECT 'column', rolname, attrelid::regclass, attname, p FROM others, pg_attribute JOIN pg_class c ON c.oid = attrelid,
       unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p
 WHERE attnum > 0 AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relnamespace::regnamespace::text !~ '^(pg_|information)'
   AND has_column_privilege(others.oid, attrelid, attnum, p) ORDER BY 2, 3, 4, 5;
SELECT 'sequence', rolname, c.oid::regclass, p FROM others, pg_class c, unnest('{SELECT,USAGE,UPDATE}'::text[]) p
 WHERE relkind = 'S' AND has_sequence_privilege(others.oid, c.oid, p) ORDER BY 2, 3, 4;
SELECT 'routine', rolname, f.oid::regprocedure, p FROM others, pg_proc f,
       unnest('{EXECUTE,EXECUTE WITH GRANT OPTION}'::text[]) p
 WHERE pronamespace::regnamespace::text !~ '^(pg_|information)' AND has_function_privilege(others.oid, f.oid, p)
 ORDER BY 2, 3, 4;
SELECT 'type', rolname, t.oid::regtype FROM others, pg_type t
 WHERE typtype = 'e' AND has_type_privilege(others.oid, t.oid, 'USAGE') ORDER BY 2, 3;
SELECT 'default', pg_get_userbyid(defaclrole), defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM pg_default_acl
 WHERE pg_get_userbyid(defaclrole) <> ALL(:ours::name[]) ORDER BY 2, 3, 4;
SELECT 'owner', c.oid::regclass, relowner::regrole FROM pg_class c
 WHERE relnamespace::regnamespace::text !~ '^(pg_|information)' ORDER BY 2;
SELECT 'owner', nspname, nspowner::regrole FROM pg_namespace WHERE nspname !~ '^pg_t' ORDER BY 2;
SELECT 'owner', datname, datdba::regrole FROM pg_database ORDER BY 2;
