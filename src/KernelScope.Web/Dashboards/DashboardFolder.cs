using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text.Json;
using KernelScope.Files;
using KernelScope.Web.Contract;
using KernelScope.Web.Endpoints;
using Microsoft.Win32.SafeHandles;

namespace KernelScope.Web.Dashboards;

/// <summary>
/// The pages that <c>dash --out</c> wrote, as a file from a stranger: the index is checked whole when it is opened, a page when it is read.
/// A page is one read.
/// </summary>
/// <remarks>Any number of threads may read.</remarks>
internal sealed class DashboardFolder : IDisposable
{
    public const string InfoName = "dash.json", IndexName = "features.idx", MembersName = "features.bin", SitePrefix = "site/";

    private const int MaxInfo = 1 << 20, MaxFeatures = 1 << 24, MaxMember = 16 << 20;

    // A page is some 10 to 30 times as large as its member; one that fires nowhere is small whatever its ratio.
    private const long MaxRatio = 100, AlwaysAllowed = 1 << 20;

    private readonly SafeFileHandle _members;
    private readonly long[] _offsets;
    private readonly long[] _firing;

    private DashboardFolder(DashboardInfo info, SafeFileHandle members, long[] offsets, long[] firing)
    {
        (Info, _members, _offsets, _firing) = (info, members, offsets, firing);
    }

    /// <summary>What the pages are of.</summary>
    public DashboardInfo Info { get; }

    /// <summary>What <c>features.idx</c> holds.</summary>
    public static TensorInfo[] Tensors(int features) =>
    [
        new TensorInfo("offset", DType.I64, [features + 1L]), new TensorInfo("firing", DType.I64, [features]),
        new TensorInfo("max", DType.F32, [features]),
    ];

    /// <summary>Opens a folder.</summary>
    /// <exception cref="InvalidDataException">It is not such a folder, or damaged; the message says what and where.</exception>
    public static DashboardFolder Open(string folder)
    {
        string path = Path.Combine(folder, InfoName);
        if (!RawFile.IsThere(path))
            throw BadFile.At(folder, "there is no dash.json in it: this is not what dash --out makes, or it was not finished.");
        DashboardInfo info = ReadInfo(path);
        (long[] offsets, long[] firing) = ReadIndex(Path.Combine(folder, IndexName), info);
        string membersPath = Path.Combine(folder, MembersName);
        SafeFileHandle members;
        try
        {
            members = File.OpenHandle(membersPath, options: FileOptions.RandomAccess);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw BadFile.At(membersPath, "it is missing or cannot be read.", e);
        }

        long length = RandomAccess.GetLength(members);
        if (length == offsets[^1])
            return new DashboardFolder(info, members, offsets, firing);
        members.Dispose();
        throw BadFile.At(membersPath, $"the file has {length} bytes; its index has {offsets[^1]}.");
    }

    /// <summary>Whether a feature has a page.</summary>
    public bool Has(int feature) => (uint)feature < (uint)Info.Features && _offsets[feature + 1] > _offsets[feature];

    /// <summary>The share of counted positions on which a feature fires.</summary>
    public double Density(int feature) => Info.CountedPositions == 0 ? 0 : _firing[feature] / (double)Info.CountedPositions;

    /// <summary>A feature's row as it is stored.</summary>
    /// <exception cref="Refusal">500: what is stored is not such a row.</exception>
    public FeatureRow Read(int feature)
    {
        byte[] member = new byte[_offsets[feature + 1] - _offsets[feature]];
        try
        {
            for (int read = 0, more; read < member.Length; read += more)
            {
                more = RandomAccess.Read(_members, member.AsSpan(read), _offsets[feature] + read);
                if (more == 0)
                    throw new InvalidDataException();
            }

            FeatureRow row = JsonSerializer.Deserialize(Decompress(member), DashboardJson.Row) ?? throw new InvalidDataException();
            return IsSound(row, feature) ? row : throw new InvalidDataException();
        }
        catch (Exception e) when (e is InvalidDataException or JsonException or IOException or NotSupportedException)
        {
            throw new Refusal(
                StatusCodes.Status500InternalServerError,
                $"The stored page of feature {feature} is damaged; dash --out makes it anew.");
        }
    }

    public void Dispose() => _members.Dispose();

    private static DashboardInfo ReadInfo(string path)
    {
        DashboardInfo info;
        try
        {
            info = JsonSerializer.Deserialize(RawFile.ReadAll(path, MaxInfo), DashboardInfoJson.Default.DashboardInfo)
                ?? throw BadFile.At(path, "it holds nothing.");
        }
        catch (JsonException e)
        {
            throw BadFile.At(path, $"it is not what dash --out writes ({BadFile.Printable(e.Message, 200)}).", e);
        }

        if (info.Format != DashboardInfo.CurrentFormat)
            throw BadFile.At(path, $"it has format {info.Format}; this version reads format {DashboardInfo.CurrentFormat}.");
        if (info.Features is < 1 or > MaxFeatures || info.CountedPositions < 0)
            throw BadFile.At(path, $"it speaks of {info.Features} features and {info.CountedPositions} positions.");
        return info;
    }

    private static unsafe (long[] Offsets, long[] Firing) ReadIndex(string path, DashboardInfo info)
    {
        byte[] bytes = RawFile.ReadAll(path, 1 << 30);
        if (info.Files is null || !info.Files.TryGetValue(IndexName, out DashboardFile? stated)
            || stated?.Sha256 != Convert.ToHexStringLower(SHA256.HashData(bytes)))
            throw BadFile.At(path, "its SHA-256 is not the one in dash.json: it is damaged, or belongs to other pages.");
        // The very bytes that were hashed.
        fixed (byte* first = bytes)
        {
            using SafetensorsFile file = SafetensorsFile.Parse(RawFile.OfMemory(path, first, bytes.Length));
            return ReadIndex(file, path, info);
        }
    }

    private static (long[] Offsets, long[] Firing) ReadIndex(SafetensorsFile file, string path, DashboardInfo info)
    {
        foreach (TensorInfo expected in Tensors(info.Features))
        {
            TensorView found = file[expected.Name];
            if (found.DType != expected.DType || !found.Shape.SequenceEqual(expected.Shape))
                throw BadFile.At(path, $"{found.Info} was found; {expected} was expected.");
        }

        long[] offsets = Values(file["offset"]), firing = Values(file["firing"]);
        for (int f = 0; f < info.Features; f++)
        {
            long length = offsets[f + 1] - offsets[f];
            if (offsets[0] != 0 || length is < 0 or > MaxMember || firing[f] < 0 || firing[f] > info.CountedPositions)
                throw BadFile.At(path, $"feature {f} has {length} bytes at {offsets[f]} and fires on {firing[f]} of " +
                    $"{info.CountedPositions} positions, which cannot be.");
        }

        return (offsets, firing);
    }

    private static unsafe long[] Values(TensorView tensor)
    {
        using TensorView.Reading reading = tensor.Read();
        return new ReadOnlySpan<long>(tensor.Pointer, checked((int)tensor.ElementCount)).ToArray();
    }

    /// <summary>The content of a member, unless it is larger than any page.</summary>
    private static byte[] Decompress(byte[] member)
    {
        using var gzip = new GZipStream(new MemoryStream(member), CompressionMode.Decompress);
        using var content = new MemoryStream();
        byte[] buffer = new byte[64 << 10];
        for (int read; (read = gzip.Read(buffer)) > 0;)
        {
            if (content.Length + read > AlwaysAllowed + (MaxRatio * member.Length))
                throw new InvalidDataException();
            content.Write(buffer, 0, read);
        }

        return content.ToArray();
    }

    private static bool IsSound(FeatureRow row, int feature)
    {
        bool isWhole = row.Kernelscope?.MaskedIds is not null && row.Activations is not null && row.Explanations is not null;
        if (!isWhole || row.Index != feature.ToString(CultureInfo.InvariantCulture))
            return false;
        bool isPaired = Pairs(row.PosStr, row.PosValues) && Pairs(row.NegStr, row.NegValues)
            && Pairs(row.FreqHistValues, row.FreqHistHeights) && Pairs(row.LogitsHistValues, row.LogitsHistHeights)
            && Pairs(row.TopkCosSimIndices, row.TopkCosSimValues);
        return isPaired && row.Explanations!.All(e => e?.Description is not null)
            && row.Activations!.All(a => a is not null && Pairs(a.Tokens, a.Values) && a.Tokens.All(t => t is not null)
                && a.DfaValues is { } sources && (sources.Count == 0 || sources.Count == a.Values.Count));
    }

    private static bool Pairs<TFirst, TSecond>(IReadOnlyList<TFirst>? first, IReadOnlyList<TSecond>? second) =>
        first is not null && second is not null && first.Count == second.Count;
}
