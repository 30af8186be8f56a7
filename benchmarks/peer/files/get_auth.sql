CREATE FUNCTION pgbouncer.get_auth(p_usename text) RETURNS TABLE (username text, password text)
LANGUAGE sql SECURITY DEFINER SET search_path = ''
AS $$
  SELECT rolname::text, rolpassword
    FROM pg_catalog.pg_authid
   WHERE rolname = p_usename AND rolcanlogin AND NOT rolsuper
$$
