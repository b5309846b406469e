using Microsoft.Extensions.Hosting;

namespace KernelScope.Extensions;

/// <summary>
/// Opens the engine with the host and closes it as the first thing of its stop: streams end then, and a web server does not wait for
/// them.
/// </summary>
internal sealed class EngineService(EngineHost host) : IHostedLifecycleService
{
    public Task StartAsync(CancellationToken cancellationToken) =>
        host.Options.OpenAtStart ? host.OpenAsync().WaitAsync(cancellationToken) : Task.CompletedTask;

    public Task StoppingAsync(CancellationToken cancellationToken) => host.DisposeAsync().AsTask();

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
