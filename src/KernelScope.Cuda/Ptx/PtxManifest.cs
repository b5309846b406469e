using System.Text.Json;

namespace KernelScope.Cuda.Ptx;

/// <summary>A kernel's parameter, as the manifest has it.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Name">Name in the source.</param>
/// <param name="Offset">First byte in the parameter block.</param>
/// <param name="Size">Bytes: 16 for a view {pointer, length}, 8 or 4 for a number.</param>
/// <param name="Type">Type: <c>f32[]</c> is a view of float32, <c>i32</c> a number.</param>
internal sealed record PtxParameter(string Name, int Offset, int Size, string Type);

/// <summary>Where a kernel's code for one architecture is.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Target">10·major + minor of the oldest device that it runs on.</param>
/// <param name="File">Path below <c>kernels/ptx</c>.</param>
/// <param name="Sha256">Hash of the kernel's text in that file.</param>
internal sealed record PtxCode(int Target, string File, string Sha256);

/// <summary>A shipped kernel.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="Name">Name of its entry point.</param>
/// <param name="GroupSize">Threads of a block.</param>
/// <param name="TileRows">Rows of the result that a block or a launch covers.</param>
/// <param name="TileColumns">Columns that a block covers.</param>
/// <param name="Parameters">Parameters in order.</param>
/// <param name="Code">Its code, oldest architecture first.</param>
internal sealed record PtxKernelInfo(string Name, int GroupSize, int TileRows, int TileColumns, IReadOnlyList<PtxParameter> Parameters, IReadOnlyList<PtxCode> Code)
{
    /// <summary>Bytes of the parameter block.</summary>
    public int ParameterBytes => Parameters.Count == 0 ? 0 : Parameters[^1].Offset + Parameters[^1].Size;

    /// <summary>The newest code that a device can run; null if it is too old for all.</summary>
    public PtxCode? CodeFor(int computeCapability) => Code.LastOrDefault(c => c.Target <= computeCapability);
}

/// <summary><c>kernels/ptx/manifest.json</c>: what is in the PTX files, as the compiler that wrote them says.</summary>
/// <remarks>Immutable: any number of threads may read it.</remarks>
/// <param name="PtxVersion">The texts' <c>.version</c>.</param>
/// <param name="Kernels">All kernels.</param>
internal sealed record PtxManifest(string PtxVersion, IReadOnlyList<PtxKernelInfo> Kernels)
{
    /// <summary>Name of the file.</summary>
    public const string FileName = "manifest.json";

    private const int Format = 1;

    /// <summary>Reads a manifest.</summary>
    /// <exception cref="InvalidDataException">It is no manifest of a known format.</exception>
    public static PtxManifest Parse(ReadOnlyMemory<byte> json)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            JsonElement root = document.RootElement;
            int format = root.GetProperty("format").GetInt32();
            if (format != Format)
                throw new InvalidDataException($"{FileName} has format {format}; this program reads format {Format}.");
            return new PtxManifest(root.GetProperty("ptx_isa").GetString()!, [.. root.GetProperty("kernels").EnumerateArray().Select(Kernel)]);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{FileName} is damaged: {e.Message}", e);
        }
    }

    private static PtxKernelInfo Kernel(JsonElement k) => new(
        k.GetProperty("name").GetString()!,
        k.GetProperty("group_size").GetInt32(),
        k.GetProperty("tile_rows").GetInt32(),
        k.GetProperty("tile_columns").GetInt32(),
        [.. k.GetProperty("parameters").EnumerateArray().Select(Parameter)],
        [.. k.GetProperty("code").EnumerateArray().Select(Code).OrderBy(c => c.Target)]);

    private static PtxParameter Parameter(JsonElement p) =>
        new(p.GetProperty("name").GetString()!, p.GetProperty("offset").GetInt32(), p.GetProperty("size").GetInt32(), p.GetProperty("type").GetString()!);

    private static PtxCode Code(JsonElement c) => new(
        int.Parse(c.GetProperty("target").GetString()!.AsSpan("sm_".Length), System.Globalization.CultureInfo.InvariantCulture),
        c.GetProperty("file").GetString()!,
        c.GetProperty("sha256").GetString()!);
}
