-- One transaction: a sort, a hash aggregate, a hash join, then all of them in one query. Left to itself the planner
-- avoids hash tables that it expects to be larger than their share of memory; a wrong estimate does not.
BEGIN;
SELECT count(n) FROM (SELECT row_number() OVER (ORDER BY content DESC) AS n FROM facts) AS sorted;
SET LOCAL enable_sort = off;
SELECT count(n) FROM (SELECT content, count(*) AS n FROM facts GROUP BY content) AS hashed;
SELECT count(*) FROM facts AS a JOIN facts AS b USING (content) WHERE length(a.content || b.content) > 0;
SELECT count(n) FROM (
  SELECT n, row_number() OVER (ORDER BY content) FROM (
    SELECT a.content, count(*) AS n FROM facts AS a JOIN facts AS b USING (content) GROUP BY a.content
  ) AS joined
) AS everything;
COMMIT;
