namespace KernelScope.Cuda.Launching;

/// <summary>Values in device memory, as a kernel gets them.</summary>
/// <typeparam name="T">What they are; <see cref="Stored"/> where a kernel is compiled for several types.</typeparam>
/// <param name="Address">The first value.</param>
/// <param name="Length">Number of values.</param>
internal readonly record struct View<T>(ulong Address, long Length);

/// <summary>A value of a weight or a cache, in the type in which it is stored.</summary>
internal struct Stored;
