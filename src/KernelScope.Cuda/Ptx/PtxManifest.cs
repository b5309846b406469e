using System.Globalization;
using System.Text.Json;
using KernelScope.Cuda.Driver;

namespace KernelScope.Cuda.Ptx;

/// <summary>A kernel's parameter, as the manifest has it.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Name">Name in the source.</param>
/// <param name="Offset">First byte in the parameter block.</param>
/// <param name="Size">Bytes: 16 for a view {pointer, length}, 8 or 4 for a number.</param>
/// <param name="Type">Type: <c>f32[]</c> is a view of float32, <c>i32</c> a number.</param>
internal sealed record PtxParameter(string Name, int Offset, int Size, string Type);

/// <summary>What a PTX text is for: <c>sm_80</c> runs on every device from 8.0 on, <c>sm_90a</c> on devices of 9.0 alone.</summary>
/// <remarks>
/// NVIDIA, PTX ISA, "PTX Module Directives: .target": targets with a suffix are specific to their architecture. Immutable: any number of
/// threads may read it.
/// </remarks>
/// <param name="Capability">10·major + minor.</param>
/// <param name="Suffix">What follows the number; empty if nothing.</param>
internal readonly record struct PtxTarget(int Capability, string Suffix)
{
    private const string Prefix = "sm_";

    /// <summary>Reads <c>sm_90a</c>.</summary>
    /// <exception cref="FormatException">It is something else.</exception>
    public static PtxTarget Parse(string text)
    {
        int end = Prefix.Length;
        while (end < text.Length && char.IsAsciiDigit(text[end]))
            end++;
        if (!text.StartsWith(Prefix, StringComparison.Ordinal) || end == Prefix.Length || text.Length > end + 1)
            throw new FormatException($"'{text}' is not a PTX target such as sm_80.");
        return new PtxTarget(int.Parse(text.AsSpan(Prefix.Length, end - Prefix.Length), CultureInfo.InvariantCulture), text[end..]);
    }

    /// <summary>Whether a device runs it.</summary>
    public bool RunsOn(int computeCapability) => Suffix.Length == 0 ? Capability <= computeCapability : Capability == computeCapability;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Prefix}{Capability}{Suffix}");
}

/// <summary>Where a kernel's code for one architecture is.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Target">The devices that it runs on.</param>
/// <param name="File">Path below <c>kernels/ptx</c>.</param>
/// <param name="Sha256">Hash of the kernel's text in that file.</param>
/// <param name="PtxVersion">The file's <c>.version</c>.</param>
internal sealed record PtxCode(PtxTarget Target, string File, string Sha256, string PtxVersion);

/// <summary>A shipped kernel.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Name">Name of its entry point.</param>
/// <param name="GroupSize">Threads of a block.</param>
/// <param name="TileRows">Rows of the result that a block or a launch covers.</param>
/// <param name="TileColumns">Columns that a block covers.</param>
/// <param name="Parameters">Parameters in order.</param>
/// <param name="Code">Its code, oldest architecture first.</param>
internal sealed record PtxKernelInfo(string Name, int GroupSize, int TileRows, int TileColumns, IReadOnlyList<PtxParameter> Parameters,
    IReadOnlyList<PtxCode> Code)
{
    /// <summary>Bytes of the parameter block.</summary>
    public int ParameterBytes => Parameters.Count == 0 ? 0 : Parameters[^1].Offset + Parameters[^1].Size;

    /// <summary>The newest code that a device can run; null if it is too old for all.</summary>
    public PtxCode? CodeFor(int computeCapability) => Code.LastOrDefault(c => c.Target.RunsOn(computeCapability));
}

/// <summary><c>kernels/ptx/manifest.json</c>: what is in the PTX files, as the compiler that wrote them says.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Kernels">All kernels.</param>
internal sealed record PtxManifest(IReadOnlyList<PtxKernelInfo> Kernels)
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "manifest.json";

    private const int Format = 1;

    /// <summary>Reads a manifest.</summary>
    /// <exception cref="InvalidDataException">It is not a manifest of a known format.</exception>
    public static PtxManifest Parse(ReadOnlyMemory<byte> json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            JsonElement root = document.RootElement;
            int format = root.GetProperty("format").GetInt32();
            if (format != Format)
                throw new InvalidDataException($"{FileName} has format {format}; this program reads format {Format}.");
            string version = root.GetProperty("ptx_isa").GetString()!;
            return new PtxManifest([.. root.GetProperty("kernels").EnumerateArray().Select(k => Kernel(k, version))]);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{FileName} is damaged: {e.Message}", e);
        }
    }

    /// <summary>The newest <c>.version</c> among what a device loads; of a device that is too old for all, the oldest there is.</summary>
    public string PtxVersionFor(int computeCapability)
    {
        IEnumerable<string> loaded = Kernels.Select(k => k.CodeFor(computeCapability)?.PtxVersion).OfType<string>();
        return loaded.MaxBy(PtxVersions.CudaFor) ?? Kernels.SelectMany(k => k.Code).Select(c => c.PtxVersion).MinBy(PtxVersions.CudaFor)!;
    }

    private static PtxKernelInfo Kernel(JsonElement k, string version) => new(
        k.GetProperty("name").GetString()!,
        k.GetProperty("group_size").GetInt32(),
        k.GetProperty("tile_rows").GetInt32(),
        k.GetProperty("tile_columns").GetInt32(),
        [.. k.GetProperty("parameters").EnumerateArray().Select(Parameter)],
        [.. k.GetProperty("code").EnumerateArray().Select(c => Code(c, version)).OrderBy(c => c.Target.Capability)
        .ThenBy(c => c.Target.Suffix, StringComparer.Ordinal)]);

    private static PtxParameter Parameter(JsonElement p) =>
        new(p.GetProperty("name").GetString()!, p.GetProperty("offset").GetInt32(), p.GetProperty("size").GetInt32(),
        p.GetProperty("type").GetString()!);

    private static PtxCode Code(JsonElement c, string version) => new(
        PtxTarget.Parse(c.GetProperty("target").GetString()!),
        c.GetProperty("file").GetString()!,
        c.GetProperty("sha256").GetString()!,
        c.TryGetProperty("ptx_isa", out JsonElement own) ? own.GetString()! : version);
}
