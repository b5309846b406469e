using KernelScope.Cpu;
using KernelScope.Devices;
using KernelScope.Model;
using KernelScope.Runtime;
using KernelScope.Sae;
using KernelScope.Text;
using Microsoft.AspNetCore.Builder;

namespace KernelScope.Examples;

/// <summary>What an example takes as given: it shows one type, and opens the others only where that is its point. Examples are compiled, not run.</summary>
internal static class Given
{
    // Lower case: in an example they stand for locals of the reader's own.
    public static readonly CpuDevice device = null!;
    public static readonly Gemma2Model model = null!;
    public static readonly JumpReluSae sae = null!;
    public static readonly Session session = null!;
    public static readonly GemmaTokenizer tokenizer = null!;
    public static readonly KernelScopeEngine engine = null!;
    public static readonly EngineOptions options = null!;
    public static readonly EngineOptions engineOptions = null!;
    public static readonly WebApplicationBuilder builder = null!;
    public static readonly WebApplication app = null!;
    public static readonly int[] tokens = [];
    public static readonly int[] prompt = [];
    public static readonly float[] values = [];
    public static readonly Mat x = default;
    public static readonly CancellationToken cancellationToken = default;
}
