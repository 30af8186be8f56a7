CREATE SCHEMA "Sales Dept" AUTHORIZATION "App User";
CREATE SCHEMA "order" AUTHORIZATION batch;
CREATE SCHEMA private AUTHORIZATION "o'brien";
GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
GRANT USAGE ON SCHEMA "Sales Dept", "order" TO "Report Team", "select" WITH GRANT OPTION;

CREATE TABLE customers (id serial PRIMARY KEY, name text, "E Mail" text);
INSERT INTO customers (name, "E Mail") SELECT 'customer ' || i, i || '@example.com' FROM generate_series(1, 5000) i;
ALTER TABLE customers OWNER TO legacy_owner;
CREATE TABLE "Sales Dept"."Line Items" (id int GENERATED ALWAYS AS IDENTITY, "select" numeric, note text);
INSERT INTO "Sales Dept"."Line Items" ("select", note) SELECT i * 1.5, md5(i::text) FROM generate_series(1, 3000) i;
ALTER TABLE "Sales Dept"."Line Items" OWNER TO "App User";
CREATE TABLE "order"."user" (id int, "ünï ""quoted""" text) PARTITION BY RANGE (id);
CREATE TABLE "order"."user 1" PARTITION OF "order"."user" FOR VALUES FROM (0) TO (1000);
INSERT INTO "order"."user" SELECT i, 'x' || i FROM generate_series(1, 900) i;
ALTER TABLE "order"."user" OWNER TO batch;
ALTER TABLE "order"."user 1" OWNER TO batch;
CREATE TABLE private.diary (day date, entry text);
INSERT INTO private.diary VALUES ('2024-05-06', 'secret'), ('2024-05-07', 'still secret');
ALTER TABLE private.diary OWNER TO "o'brien";
CREATE VIEW "Sales Dept".totals AS SELECT sum("select") AS total FROM "Sales Dept"."Line Items";
CREATE MATERIALIZED VIEW "Sales Dept"."Kept Totals" AS SELECT * FROM "Sales Dept".totals;
CREATE SEQUENCE "order"."Next Number" START 4711;
SELECT nextval('"order"."Next Number"');
CREATE FUNCTION "order"."do it; now"(int, text[]) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE "order".proceed() LANGUAGE sql AS 'SELECT 1';
CREATE TYPE "order"."Mood" AS ENUM ('good', 'bad');

-- Rights of others, in every shape.
GRANT SELECT ON customers TO "Report Team" WITH GRANT OPTION;
GRANT SELECT (name), UPDATE ("E Mail") ON customers TO "select";
GRANT ALL ON "order"."user" TO "select";
GRANT TRUNCATE, TRIGGER ON "Sales Dept"."Line Items" TO "Größe; DROP ROLE x";
GRANT USAGE ON SEQUENCE "order"."Next Number" TO monitoring;
REVOKE EXECUTE ON FUNCTION "order"."do it; now"(int, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION "order"."do it; now"(int, text[]) TO "o'brien" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE batch IN SCHEMA public GRANT SELECT ON TABLES TO "o'brien";
ALTER DEFAULT PRIVILEGES FOR ROLE legacy_owner GRANT ALL ON SEQUENCES TO "Report Team";
-- Too many for roles of the model: these go.
GRANT ALL ON customers TO "reader's" WITH GRANT OPTION;
GRANT DELETE ON "order"."user" TO "reader's";
GRANT UPDATE (note) ON "Sales Dept"."Line Items" TO "reader's";
GRANT CREATE ON DATABASE "Legacy Shop" TO "reader's";
