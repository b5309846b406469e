// Engines want all cores, and one test measures the memory of the process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
