{   ((1, 8192), 0, 'inductor_standalone'): {   'cache_key': 'abababababababababababababababab',
        'graph_handle': (   'artifact_compile_range_1_8192_subgraph_0',
                            '/srv/cache/artifact_compile_range_1_8192_subgraph_0')},
    ((1, 8192), 1, 'inductor_standalone'): {   'cache_key': 'abababababababababababababababab',
        'graph_handle': (   'artifact_compile_range_1_8192_subgraph_1',
                            '/srv/cache/artifact_compile_range_1_8192_subgraph_1')}}