using System.Collections.Immutable;
using System.Reflection;

namespace KernelScope.Kernels;

/// <summary>A GPU architecture that PTX is emitted for; the driver compiles it for every newer one.</summary>
public enum GpuTarget
{
    /// <summary>Turing: the plain forms.</summary>
    Sm75 = 75,

    /// <summary>Ampere: all forms; the default.</summary>
    Sm80 = 80,
}

/// <summary>A kernel that is shipped as PTX.</summary>
/// <param name="Name">Entry point: family_variant_dtype.</param>
/// <param name="Family">Module, and file, that holds it.</param>
/// <param name="Method">The static method, closed over its type arguments.</param>
/// <param name="GroupSize">Threads of a group; always one-dimensional.</param>
/// <param name="MinTarget">The oldest architecture that has its instructions.</param>
/// <param name="Grid">What the grid's dimensions are, for people.</param>
/// <param name="TileRows">Rows of the result that a group or a launch covers; 1 where it is no matter.</param>
/// <param name="TileColumns">Columns (outputs, features, keys) that a group covers; 1 where it is no matter.</param>
public sealed record KernelEntry(
    string Name,
    string Family,
    MethodInfo Method,
    int GroupSize,
    GpuTarget MinTarget,
    string Grid,
    int TileRows = 1,
    int TileColumns = 1);

/// <summary>Every kernel that is shipped, in the order of the manifest.</summary>
public static class Catalog
{
    private static readonly (string Name, Type Type)[] Weights = [("bf16", typeof(BF16)), ("f16", typeof(F16)), ("f32", typeof(F32))];

    /// <summary>All kernels.</summary>
    public static ImmutableArray<KernelEntry> All { get; } =
    [
        .. Embedding(),
        .. Norms(),
        .. Elements(),
        .. Rotations(),
    ];

    private static IEnumerable<KernelEntry> Embedding() =>
        Weights.Select(w => Plain($"embed_{w.Name}", "embed", typeof(Embed), nameof(Embed.Rows), Embed.GroupSize, "rows, ceil(columns/256)", w.Type));

    private static IEnumerable<KernelEntry> Norms() =>
    [
        Plain("rms_normalize", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.Normalize), RmsNorm.GroupSize, "rows"),
        Plain("rms_norm", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.Row), RmsNorm.GroupSize, "rows"),
        Plain("rms_add_normed_then_norm", "rms_norm", typeof(RmsNorm), nameof(RmsNorm.AddNormedThenNorm), RmsNorm.GroupSize, "rows"),
    ];

    private static IEnumerable<KernelEntry> Elements() =>
        new[]
        {
            ("copy", nameof(Elementwise.Copy)),
            ("add_scaled", nameof(Elementwise.AddScaled)),
            ("apply_gain", nameof(Elementwise.ApplyGain)),
            ("softcap", nameof(Elementwise.Softcap)),
            ("gelu_multiply", nameof(Elementwise.GeluMultiply)),
        }.Select(e => Plain(e.Item1, "elementwise", typeof(Elementwise), e.Item2, Elementwise.GroupSize, "rows, ceil(columns/256)"));

    private static IEnumerable<KernelEntry> Rotations() =>
        new[]
        {
            ("rope_rotate", nameof(Rope.Rotate)),
            ("rope_store", nameof(Rope.Store)),
            ("rope_rotate_then_store", nameof(Rope.RotateThenStore)),
        }.Select(e => Plain(e.Item1, "rope", typeof(Rope), e.Item2, Rope.GroupSize, "rows, ceil(pairs/128)"));

    private static KernelEntry Plain(string name, string family, Type type, string method, int groupSize, string grid, params Type[] types)
    {
        MethodInfo found = type.GetMethod(method) ?? throw new InvalidOperationException($"{type.Name} has no method {method}.");
        return new KernelEntry(name, family, types.Length == 0 ? found : found.MakeGenericMethod(types), groupSize, GpuTarget.Sm75, grid);
    }
}
