namespace KernelScope.Tests.Demo;

/// <summary>The demo's goldens in the emulator take minutes; <see cref="Gpu.Tests.Cuda.DemoTests"/> has a part of them for every run.</summary>
[Trait("Category", "Slow")]
public sealed partial class DemoGoldenTests;
