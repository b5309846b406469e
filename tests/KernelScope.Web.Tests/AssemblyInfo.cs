// One server for all classes of a collection; classes that start servers of their own would fight for the machine's cores.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
