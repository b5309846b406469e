using System.Diagnostics.Metrics;
using KernelScope.Runtime;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace KernelScope.Extensions;

/// <summary>The one engine of a container: opened once, by whoever needs it first, and closed with the host or the container.</summary>
internal sealed class EngineHost(IOptions<KernelScopeOptions> options, IServiceProvider services) : IAsyncDisposable, IDisposable
{
    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _closing = new();
    private Task<KernelScopeEngine>? _opening;
    private bool _isClosed;

    public KernelScopeOptions Options => options.Value;

    /// <summary>The engine, once it is open.</summary>
    public Task<KernelScopeEngine> OpenAsync()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isClosed, typeof(KernelScopeEngine));
            return _opening ??= KernelScopeEngine.OpenAsync(Complete(options.Value), cancellationToken: _closing.Token);
        }
    }

    /// <summary>Closes the engine, or ends its opening.</summary>
    public async ValueTask DisposeAsync()
    {
        Task<KernelScopeEngine>? opening;
        lock (_gate)
        {
            _isClosed = true;
            opening = _opening;
        }

        // Not disposed: it has no timer and no handle, and a second caller may still be here.
        await _closing.CancelAsync().ConfigureAwait(false);
        if (opening is null)
            return;
        await ((Task)opening).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (opening.IsCompletedSuccessfully)
            await opening.Result.DisposeAsync().ConfigureAwait(false);
    }

    public void Dispose() => DisposeAsync().AsTask().GetAwaiter().GetResult();

    private KernelScopeOptions Complete(KernelScopeOptions given)
    {
        given.LoggerFactory ??= services.GetService<ILoggerFactory>();
        given.MeterFactory ??= services.GetService<IMeterFactory>();
        return given;
    }
}
