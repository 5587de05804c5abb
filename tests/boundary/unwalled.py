"""A code server that has torn down its own half of the second guard: only the workspace's is left."""

from ntro_dagster.tenant import code_server, outgoing

if __name__ == "__main__":
    outgoing.rebuilt = lambda *_: None
    code_server.main()
